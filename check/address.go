package check

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"extauthz/keystore"
)

// An AddressSource says where the client address of a request comes from: [Peer],
// [TrustedProxies], [TrustedHops] or [AddressHeader]. What it finds missing, repeated or malformed
// gives no address; it never falls back to a weaker source.
type AddressSource interface {
	// Validate reports what is wrong with how the source was made and what to write instead.
	Validate() error

	// find returns the client address, unmapped and without a zone, or why there is none,
	// and where it was looked for.
	find(a *Attributes) (addr netip.Addr, from string, err error)
}

const (
	fromPeer         = "peer"
	fromForwardedFor = "x-forwarded-for"
)

var (
	errNoPeer     = errors.New("the peer has no IP address")
	errNoHeader   = errors.New("the request has no such header")
	errRepeated   = errors.New("the header came more than once, or holds a list")
	errNotAnAddr  = errors.New("the header's value is not an IP address")
	errBadEntry   = errors.New("an entry that had to be read is not an IP address")
	errAllTrusted = errors.New("every entry is a trusted proxy")
	errFewEntries = errors.New("there are fewer entries than trusted hops")
)

// Peer takes the address of the TCP connection to Envoy (source.address), or what the PROXY
// protocol said in its place. No header changes it. A peer on a unix socket has no address.
func Peer() AddressSource { return peer{} }

type peer struct{}

func (peer) Validate() error { return nil }

func (peer) find(a *Attributes) (netip.Addr, string, error) {
	addr, ok := parseAddr(a.Peer)
	if !ok {
		return netip.Addr{}, fromPeer, errNoPeer
	}
	return addr, fromPeer, nil
}

// TrustedProxies takes the peer's address where the peer is none of the proxies. Where it is,
// x-forwarded-for is walked from the right past the proxies, and the first other address is
// the client's. What stands left of it is never looked at: the client wrote it.
func TrustedProxies(proxies []netip.Prefix) AddressSource {
	return trustedProxies{keystore.NewWhitelist(proxies)}
}

type trustedProxies struct{ proxies keystore.Whitelist }

func (t trustedProxies) Validate() error {
	if len(t.proxies.Prefixes()) == 0 {
		return errors.New("trusted_proxies is empty: write the ranges of the proxies in front of Envoy, or use from: peer")
	}
	var errs []error
	for _, p := range t.proxies.Prefixes() {
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

func (t trustedProxies) find(a *Attributes) (netip.Addr, string, error) {
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
	for more := true; more; {
		var entry string
		list, entry, more = cutLast(list)
		addr, ok := parseAddr(entry)
		if !ok {
			return netip.Addr{}, fromForwardedFor, errBadEntry
		}
		if !t.proxies.Contains(addr) {
			return addr, fromForwardedFor, nil
		}
	}
	return netip.Addr{}, fromForwardedFor, errAllTrusted
}

// TrustedHops takes the n-th entry of x-forwarded-for from the right: n trusted proxies stand
// in front of Envoy, counted as by Envoy's xff_num_trusted_hops. appended says that Envoy has
// appended its peer, as it does under use_remote_address; that entry is set aside first. It
// is right only where every request comes through all n proxies. A peer on a unix socket is
// one that Envoy never appends: with appended, nothing then says which entry is whose, and
// there is no address.
func TrustedHops(n int, appended bool) AddressSource { return trustedHops{n, appended} }

type trustedHops struct {
	n        int
	appended bool
}

func (t trustedHops) Validate() error {
	if t.n < 1 {
		return fmt.Errorf("trusted_hops: %d: write the number of trusted proxies in front of Envoy, at least 1, or use from: peer", t.n)
	}
	return nil
}

func (t trustedHops) find(a *Attributes) (netip.Addr, string, error) {
	if _, ok := parseAddr(a.Peer); t.appended && !ok {
		return netip.Addr{}, fromPeer, errNoPeer
	}
	list, ok := a.Header(fromForwardedFor)
	if !ok {
		return netip.Addr{}, fromForwardedFor, errNoHeader
	}
	entry, more := "", true
	if t.appended {
		list, _, more = cutLast(list)
	}
	for range t.n {
		if !more {
			return netip.Addr{}, fromForwardedFor, errFewEntries
		}
		list, entry, more = cutLast(list)
	}
	addr, ok := parseAddr(entry)
	if !ok {
		return netip.Addr{}, fromForwardedFor, errBadEntry
	}
	return addr, fromForwardedFor, nil
}

// AddressHeader takes the address from one header, which the operator's own proxy must set and
// overwrite on every request: otherwise the client chooses it.
func AddressHeader(name string) AddressSource {
	name = strings.ToLower(name)
	return headerAddress{name, "header " + name}
}

type headerAddress struct{ name, from string }

func (h headerAddress) Validate() error {
	if h.name == fromForwardedFor {
		return errors.New("header: x-forwarded-for is a list: use from: x_forwarded_for")
	}
	return validateHeaderName(h.name)
}

func (h headerAddress) find(a *Attributes) (netip.Addr, string, error) {
	value, ok := a.Header(h.name)
	if !ok {
		return netip.Addr{}, h.from, errNoHeader
	}
	if strings.Contains(value, ",") {
		return netip.Addr{}, h.from, errRepeated
	}
	addr, ok := parseAddr(value)
	if !ok {
		return netip.Addr{}, h.from, errNotAnAddr
	}
	return addr, h.from, nil
}

// parseAddr reads an IP address and nothing else: no port, no brackets, no zone. An
// IPv4-mapped IPv6 address becomes its IPv4 address.
func parseAddr(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}

// cutLast takes the last entry, without the spaces and tabs around it, off a list with commas
// (RFC 9110 section 5.6.1), and reports whether any are left.
func cutLast(list string) (rest, entry string, more bool) {
	i := strings.LastIndexByte(list, ',')
	entry = strings.Trim(list[i+1:], " \t")
	if i < 0 {
		return "", entry, false
	}
	return list[:i], entry, true
}
