package check

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"extauthz/keystore"
)

// TrustedProxies returns the source that uses the peer's address if the peer is not one of the
// proxies, and otherwise the rightmost address in x-forwarded-for that is not a proxy's. It never
// reads what is to the left of that address: the client wrote it.
func TrustedProxies(proxies []netip.Prefix, format AddressFormat) AddressSource {
	return trustedProxies{keystore.NewWhitelist(proxies), format}
}

type trustedProxies struct {
	proxies keystore.Whitelist
	format  AddressFormat
}

func (t trustedProxies) Validate() error {
	if len(t.proxies.Prefixes()) == 0 {
		return errors.New("no proxy is trusted: write the ranges of the proxies in front of Envoy, or from: peer")
	}
	return validateProxies(t.proxies)
}

// validateProxies checks the ranges of proxies. Those that [keystore.ParseWhitelistEntry] returned
// are valid.
func validateProxies(proxies keystore.Whitelist) error {
	var errs []error
	for _, p := range proxies.Prefixes() {
		switch {
		case !p.IsValid():
			errs = append(errs, fmt.Errorf("trusted_proxies: %s is not a CIDR range", p))
		case p.Addr().Is4In6():
			errs = append(errs, fmt.Errorf("trusted_proxies: %s is IPv4-mapped: write the IPv4 range", p))
		case p != p.Masked():
			errs = append(errs, fmt.Errorf("trusted_proxies: %s has host bits set: did you mean %s?", p, p.Masked()))
		}
	}
	return errors.Join(errs...)
}

func (trustedProxies) header() string { return fromForwardedFor }

func (t trustedProxies) Find(a *Attributes) (netip.Addr, string, error) {
	addr, ok := parseAddr(a.Peer)
	if !ok {
		return netip.Addr{}, fromPeer, errNoPeer
	}
	if !t.proxies.Contains(addr) {
		return addr, fromPeer, nil
	}
	list, ok := a.Header(fromForwardedFor)
	if !ok {
		return netip.Addr{}, fromForwardedFor, errNoHeader
	}
	var entry string
	for more := true; more; {
		var err error
		list, entry, more = cutLast(list)
		if addr, err = t.format.parse(entry); err != nil || !t.proxies.Contains(addr) {
			return addr, fromForwardedFor, err
		}
	}
	return netip.Addr{}, fromForwardedFor, &valueError{errAllTrusted, entry, rangeOf(t.proxies, addr)}
}

// rangeOf returns the range of the list that contains the address.
func rangeOf(list keystore.Whitelist, addr netip.Addr) netip.Prefix {
	for _, p := range list.Prefixes() {
		if p.Contains(addr) {
			return p
		}
	}
	return netip.Prefix{}
}

const maxTrustedHops = 100

// TrustedHops returns the source that uses the n-th entry of x-forwarded-for from the right: n
// trusted proxies are in front of Envoy, counted as in Envoy's xff_num_trusted_hops. It is correct
// only if every request comes through all n proxies.
//
// appended means that Envoy appends its peer before the check, as it does with
// use_remote_address. That entry is then ignored. It must be the peer's address, unless the peer
// is loopback, for which Envoy appends another one. If it is not, Envoy appended nothing, a
// caller may have written the entry, and there is no address. Envoy never appends a peer on a
// unix socket, so there is no address for it either.
func TrustedHops(n int, appended bool, format AddressFormat) AddressSource {
	return trustedHops{n, appended, format}
}

type trustedHops struct {
	n        int
	appended bool
	format   AddressFormat
}

func (t trustedHops) Validate() error {
	if t.n < 1 || t.n > maxTrustedHops {
		return fmt.Errorf("trusted_hops is out of range: write the number of trusted proxies in front of Envoy, from 1 to %d, or from: peer", maxTrustedHops)
	}
	return nil
}

func (trustedHops) header() string { return fromForwardedFor }

func (t trustedHops) Find(a *Attributes) (netip.Addr, string, error) {
	peer, ok := parseAddr(a.Peer)
	if t.appended && !ok {
		return netip.Addr{}, fromPeer, errNoPeer
	}
	list, ok := a.Header(fromForwardedFor)
	if !ok {
		return netip.Addr{}, fromForwardedFor, errNoHeader
	}
	entry, more := "", true
	if t.appended {
		list, entry, more = cutLast(list)
		if addr, ok := parseAddr(entry); !peer.IsLoopback() && (!ok || addr != peer) {
			return netip.Addr{}, fromForwardedFor, &valueError{reason: errNotAppended, value: entry}
		}
	}
	for range t.n {
		if !more {
			return netip.Addr{}, fromForwardedFor, errFewEntries
		}
		list, entry, more = cutLast(list)
	}
	addr, err := t.format.parse(entry)
	return addr, fromForwardedFor, err
}

// cutLast returns the last entry of a comma-separated list (RFC 9110 section 5.6.1), without the
// spaces and tabs around it, the rest of the list, and whether that has entries.
func cutLast(list string) (rest, entry string, more bool) {
	i := strings.LastIndexByte(list, ',')
	entry = strings.Trim(list[i+1:], " \t")
	if i < 0 {
		return "", entry, false
	}
	return list[:i], entry, true
}
