package check

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"extauthz/keystore"
)

// An AddressSource finds the client address of a request: [Peer], [TrustedProxies],
// [TrustedHops] or [AddressHeader]. If the value that it reads is missing, repeated or malformed,
// there is no address: a source never falls back to a weaker one. It is safe for concurrent use.
type AddressSource interface {
	// Validate returns an error that describes what is wrong with the source's parameters and what
	// to write instead, without repeating them.
	Validate() error

	// Find returns the client address, unmapped and without a zone, or an error that says why there
	// is none, and the place that it read. The error may contain strings of a.
	Find(a *Attributes) (addr netip.Addr, from string, err error)

	// header is the header that the source reads, in lower case; empty for none.
	header() string
}

// An AddressFormat is the format of an address in a header.
type AddressFormat uint8

// The address formats. An IPv6 address is in brackets if it has a port, and only then.
const (
	WithoutPort AddressFormat = iota // 203.0.113.7, 2001:db8::7
	WithPort                         // also 203.0.113.7:51008, [2001:db8::7]:443
)

const (
	fromPeer         = "peer"
	fromForwardedFor = "x-forwarded-for"
)

var (
	errNoPeer        = errors.New("the peer has no IP address")
	errUntrustedPeer = errors.New("the peer is not a trusted proxy")
	errNoHeader      = errors.New("the request has no such header")
	errRepeated      = errors.New("the header is repeated, or holds a list")
	errNotAnAddr     = errors.New("the value is not an IP address")
	errHasPort       = errors.New("the value has a port, and ports is not set")
	errAllTrusted    = errors.New("every entry is a trusted proxy")
	errFewEntries    = errors.New("there are fewer entries than trusted hops")
	errNotAppended   = errors.New("the last entry is not the peer's address, so Envoy did not append it")
)

// A valueError is a reason with the value that it is about and, for errAllTrusted, the range that
// contains the value. It is formatted only when it is logged.
type valueError struct {
	reason error
	value  string
	within netip.Prefix
}

func (e *valueError) Error() string {
	value := clip(e.value, 64)
	if e.within.IsValid() {
		return fmt.Sprintf("%v: the first, %q, is in %s", e.reason, value, e.within)
	}
	return fmt.Sprintf("%v: %q", e.reason, value)
}

func (e *valueError) Unwrap() error { return e.reason }

// Peer returns the source that uses the address of the TCP connection to Envoy (source.address), or
// the one from the PROXY protocol. No header changes it. A peer on a unix socket has no address.
func Peer() AddressSource { return peer{} }

type peer struct{}

func (peer) Validate() error { return nil }

func (peer) header() string { return "" }

func (peer) Find(a *Attributes) (netip.Addr, string, error) {
	addr, ok := parseAddr(a.Peer)
	if !ok {
		return netip.Addr{}, fromPeer, errNoPeer
	}
	return addr, fromPeer, nil
}

// AddressHeader returns the source that reads one header, which the operator's own proxy must set
// and overwrite on every request: otherwise the client chooses it. If proxies are given, the header
// is trusted only from a peer that is one of them; a request from any other has no address.
func AddressHeader(name string, proxies []netip.Prefix, format AddressFormat) AddressSource {
	name = strings.ToLower(name)
	return addressHeader{name, "header " + name, keystore.NewWhitelist(proxies), format}
}

type addressHeader struct {
	name, from string
	proxies    keystore.Whitelist // empty: any peer
	format     AddressFormat
}

func (h addressHeader) Validate() error {
	if h.name == fromForwardedFor {
		return errors.New("x-forwarded-for is a list, which callers can write too: write from: x_forwarded_for with trusted_proxies or trusted_hops")
	}
	return errors.Join(validateHeaderName(h.name), validateProxies(h.proxies))
}

func (h addressHeader) header() string { return h.name }

func (h addressHeader) Find(a *Attributes) (netip.Addr, string, error) {
	if len(h.proxies.Prefixes()) > 0 {
		if addr, ok := parseAddr(a.Peer); !ok {
			return netip.Addr{}, h.from, errNoPeer
		} else if !h.proxies.Contains(addr) {
			return netip.Addr{}, h.from, errUntrustedPeer
		}
	}
	value, ok := a.Header(h.name)
	if !ok {
		return netip.Addr{}, h.from, errNoHeader
	}
	if strings.Contains(value, ",") {
		return netip.Addr{}, h.from, errRepeated
	}
	addr, err := h.format.parse(value)
	return addr, h.from, err
}

// parse parses an address in the format. The error contains the value.
func (f AddressFormat) parse(value string) (netip.Addr, error) {
	if addr, ok := parseAddr(value); ok {
		return addr, nil
	}
	addr, ok := parseAddrPort(value)
	switch {
	case !ok:
		return netip.Addr{}, &valueError{reason: errNotAnAddr, value: value}
	case f != WithPort:
		return netip.Addr{}, &valueError{reason: errHasPort, value: value}
	}
	return addr, nil
}

// parseAddr parses an IP address and nothing else: no port, no brackets, no zone. An
// IPv4-mapped IPv6 address becomes its IPv4 address.
func parseAddr(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}

// parseAddrPort parses an IP address with a port. An IPv6 address is in brackets.
func parseAddrPort(s string) (netip.Addr, bool) {
	p, err := netip.ParseAddrPort(s)
	if err != nil || p.Addr().Zone() != "" {
		return netip.Addr{}, false
	}
	return p.Addr().Unmap(), true
}
