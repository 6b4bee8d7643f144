package check

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// lb is the ranges of a chain of load balancers.
var lb = TrustedProxies([]netip.Prefix{prefix("10.0.0.0/8"), prefix("2001:db8:1::/48")}, WithoutPort)

func TestClientAddress(t *testing.T) {
	const xff = "x-forwarded-for"
	appended, plain := TrustedHops(1, true, WithoutPort), TrustedHops(1, false, WithoutPort)
	ten := []netip.Prefix{prefix("10.0.0.0/8")}
	trusting := AddressHeader("x-client-ip", ten, WithoutPort)
	client := AddressHeader("X-Client-IP", nil, WithoutPort)
	tests := []struct {
		name   string
		source AddressSource
		ask    ask
		want   string // empty: no client address
		from   string
		err    error
	}{
		// Peer: no header changes it.
		{"peer", Peer(), send(), "192.0.2.1", "peer", nil},
		{"peer, IPv6", Peer(), send().from("2001:db8::7"), "2001:db8::7", "peer", nil},
		{"peer, IPv6 spelled long", Peer(), send().from("2001:0DB8:0:0:0:0:0:7"), "2001:db8::7", "peer", nil},
		{"peer, IPv4-mapped", Peer(), send().from("::ffff:192.0.2.1"), "192.0.2.1", "peer", nil},
		{"peer, IPv4-mapped in hexadecimal", Peer(), send().from("::ffff:c000:201"), "192.0.2.1", "peer", nil},
		{"peer, IPv4-compatible is not mapped", Peer(), send().from("::192.0.2.1"), "::c000:201", "peer", nil},
		{"peer with a zone", Peer(), send().from("fe80::1%eth0"), "", "peer", errNoPeer},
		{"peer with a port", Peer(), send().from("192.0.2.1:80"), "", "peer", errNoPeer},
		{"peer that is a name", Peer(), send().from("localhost"), "", "peer", errNoPeer},
		{"unix socket", Peer(), send().from(""), "", "peer", errNoPeer},
		{
			"peer, every header that claims an address", Peer(),
			send(xff, "203.0.113.9", "x-real-ip", "203.0.113.9", "forwarded", "for=203.0.113.9", "x-envoy-external-address", "203.0.113.9",
				"x-client-ip", "203.0.113.9", "true-client-ip", "203.0.113.9", "cf-connecting-ip", "203.0.113.9", "x-extauthz-client-address", "203.0.113.9"),
			"192.0.2.1", "peer", nil,
		},
		{"unix socket, header claims an address", Peer(), send(xff, "203.0.113.9").from(""), "", "peer", errNoPeer},

		// TrustedProxies: a peer that is not one of them is the client, whatever headers it sends.
		{"proxies, peer is not one", lb, send(xff, "203.0.113.9"), "192.0.2.1", "peer", nil},
		{"proxies, peer is not one, no header", lb, send(), "192.0.2.1", "peer", nil},
		{"proxies, peer is not one, claims to come through one", lb, send(xff, "203.0.113.9, 10.0.0.1"), "192.0.2.1", "peer", nil},
		{"proxies, peer is not one, garbage", lb, send(xff, ";'--"), "192.0.2.1", "peer", nil},
		{"proxies, peer just outside", lb, send(xff, "203.0.113.9").from("11.0.0.0"), "11.0.0.0", "peer", nil},
		{"proxies, no peer", lb, send(xff, "203.0.113.9").from(""), "", "peer", errNoPeer},
		{"proxies, no peer, header names a proxy", lb, send(xff, "203.0.113.9, 10.0.0.1").from(""), "", "peer", errNoPeer},
		{"proxies, one", lb, send(xff, "203.0.113.9").from("10.0.0.1"), "203.0.113.9", xff, nil},
		{"proxies, last address of the range", lb, send(xff, "203.0.113.9").from("10.255.255.255"), "203.0.113.9", xff, nil},
		{"proxies, peer IPv4-mapped", lb, send(xff, "203.0.113.9").from("::ffff:10.0.0.1"), "203.0.113.9", xff, nil},
		{"proxies, two", lb, send(xff, "203.0.113.9, 10.0.0.2").from("10.0.0.1"), "203.0.113.9", xff, nil},
		{"proxies, IPv6", lb, send(xff, "2001:db8:2::9,2001:DB8:1:0::2").from("2001:db8:1::1"), "2001:db8:2::9", xff, nil},
		{"proxies, entry IPv4-mapped is a proxy", lb, send(xff, "203.0.113.9, ::ffff:10.0.0.2").from("10.0.0.1"), "203.0.113.9", xff, nil},
		{"proxies, client IPv4-mapped", lb, send(xff, "::ffff:203.0.113.9").from("10.0.0.1"), "203.0.113.9", xff, nil},
		{"proxies, spoofed entry on the left", lb, send(xff, "198.51.100.5, 203.0.113.9").from("10.0.0.1"), "203.0.113.9", xff, nil},
		{"proxies, spoofed proxy on the left", lb, send(xff, "198.51.100.5, 10.0.0.7, 203.0.113.9, 10.0.0.2").from("10.0.0.1"), "203.0.113.9", xff, nil},
		{"proxies, garbage on the left", lb, send(xff, "unknown,,\"x\", 203.0.113.9").from("10.0.0.1"), "203.0.113.9", xff, nil},
		{"proxies, spoofed line of its own", lb, send(xff, "198.51.100.5", xff, "203.0.113.9").from("10.0.0.1"), "203.0.113.9", xff, nil},
		{"proxies, two lines make one list", lb, send(xff, "203.0.113.9", xff, "10.0.0.2").from("10.0.0.1"), "203.0.113.9", xff, nil},
		{"proxies, name in another case", lb, send("X-FORWARDED-For", "203.0.113.9").from("10.0.0.1"), "203.0.113.9", xff, nil},
		{"proxies, spaces and tabs around", lb, send(xff, " \t203.0.113.9\t ,\t10.0.0.2 ").from("10.0.0.1"), "203.0.113.9", xff, nil},
		{"proxies, no header", lb, send().from("10.0.0.1"), "", xff, errNoHeader},
		{"proxies, header with _", lb, send("x_forwarded_for", "203.0.113.9").from("10.0.0.1"), "", xff, errNoHeader},
		{"proxies, empty header", lb, send(xff, "").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, empty entry on the right", lb, send(xff, "203.0.113.9,").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, empty entry in the walk", lb, send(xff, "203.0.113.9,,10.0.0.2").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, empty line of its own", lb, send(xff, "203.0.113.9", xff, "").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, garbage in the walk", lb, send(xff, "203.0.113.9, unknown, 10.0.0.2").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, obfuscated", lb, send(xff, "203.0.113.9, _hidden").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, with a port", lb, send(xff, "203.0.113.9:4711").from("10.0.0.1"), "", xff, errHasPort},
		{"proxies, with brackets", lb, send(xff, "[2001:db8::9]").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, with brackets and a port", lb, send(xff, "[2001:db8::9]:443").from("10.0.0.1"), "", xff, errHasPort},
		{"proxies, with a zone", lb, send(xff, "fe80::1%eth0").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, proxy with a zone", lb, send(xff, "203.0.113.9, 2001:db8:1::2%1").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, quoted", lb, send(xff, `"203.0.113.9"`).from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, leading zeros", lb, send(xff, "203.0.113.009").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, octal", lb, send(xff, "0313.0.0161.011").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, hexadecimal", lb, send(xff, "0xcb.0x0.0x71.0x9").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, one number", lb, send(xff, "3405803785").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, short form", lb, send(xff, "203.0.29001").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, a range", lb, send(xff, "203.0.113.9/32").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, other digits", lb, send(xff, "２03.0.113.9").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, space inside", lb, send(xff, "203.0. 113.9").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, other whitespace around", lb, send(xff, "203.0.113.9\v").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, non-breaking space", lb, send(xff, "203.0.113.9\u00a0").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, NUL", lb, send(xff, "203.0.113.9\x00").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, not UTF-8", lb, send(xff, "203.0.113.9\xff").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, semicolons", lb, send(xff, "203.0.113.9; 10.0.0.2").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"proxies, all trusted", lb, send(xff, "10.0.0.3, 10.0.0.2").from("10.0.0.1"), "", xff, errAllTrusted},
		{"proxies, garbage left of all trusted", lb, send(xff, "x, 10.0.0.3").from("10.0.0.1"), "", xff, errNotAnAddr},

		// TrustedHops, with the entry that Envoy appended.
		{"hops", appended, send(xff, "203.0.113.9, 192.0.2.1"), "203.0.113.9", xff, nil},
		{"hops, spoofed on the left", appended, send(xff, "198.51.100.5, 203.0.113.9, 192.0.2.1"), "203.0.113.9", xff, nil},
		{"hops, spoofed line of its own", appended, send(xff, "198.51.100.5", xff, "203.0.113.9, 192.0.2.1"), "203.0.113.9", xff, nil},
		{"hops, garbage on the left", appended, send(xff, "unknown,, 203.0.113.9, 192.0.2.1"), "203.0.113.9", xff, nil},
		{"hops, two", TrustedHops(2, true, WithoutPort), send(xff, "203.0.113.9, 198.51.100.7, 192.0.2.1"), "203.0.113.9", xff, nil},
		{"hops, two, the one between is not read", TrustedHops(2, true, WithoutPort), send(xff, "203.0.113.9,,192.0.2.1"), "203.0.113.9", xff, nil},
		{"hops, two, spoofed", TrustedHops(2, true, WithoutPort), send(xff, "198.51.100.5, 203.0.113.9, 198.51.100.7, 192.0.2.1"), "203.0.113.9", xff, nil},
		{"hops, IPv4-mapped, tabs", appended, send(xff, "\t::ffff:203.0.113.9\t, ::ffff:192.0.2.1").from("::ffff:192.0.2.1"), "203.0.113.9", xff, nil},
		{"hops, IPv6 in two spellings", appended, send(xff, "203.0.113.9,2001:DB8:0::1").from("2001:db8::1"), "203.0.113.9", xff, nil},
		{"hops, too few", appended, send(xff, "192.0.2.1"), "", xff, errFewEntries},
		{"hops, two, too few", TrustedHops(2, true, WithoutPort), send(xff, "203.0.113.9, 192.0.2.1"), "", xff, errFewEntries},
		{"hops, most of all", TrustedHops(maxTrustedHops, true, WithoutPort), send(xff, "203.0.113.9, 192.0.2.1"), "", xff, errFewEntries},
		{"hops, no header", appended, send(), "", xff, errNoHeader},
		{"hops, entry empty", appended, send(xff, "203.0.113.9,,192.0.2.1"), "", xff, errNotAnAddr},
		{"hops, entry with a port", appended, send(xff, "203.0.113.9:1, 192.0.2.1"), "", xff, errHasPort},
		// Envoy appended nothing: the last entry is another proxy's, or the caller's.
		{"hops, nothing appended", appended, send(xff, "203.0.113.7, 198.51.100.9"), "", xff, errNotAppended},
		{"hops, nothing appended, one entry", appended, send(xff, "198.51.100.9"), "", xff, errNotAppended},
		{"hops, nothing appended, another entry is the peer's", appended, send(xff, "192.0.2.1, 198.51.100.9"), "", xff, errNotAppended},
		{"hops, nothing appended, garbage", appended, send(xff, "203.0.113.9, unknown"), "", xff, errNotAppended},
		{"hops, nothing appended, empty entry", appended, send(xff, "203.0.113.9,"), "", xff, errNotAppended},
		{"hops, nothing appended, empty header", appended, send(xff, ""), "", xff, errNotAppended},
		{"hops, nothing appended, the peer's with a port", TrustedHops(1, true, WithPort), send(xff, "203.0.113.9, 192.0.2.1:80"), "", xff, errNotAppended},
		{"hops, two, nothing appended", TrustedHops(2, true, WithoutPort), send(xff, "203.0.113.7, 198.51.100.9, 198.51.100.10"), "", xff, errNotAppended},
		// For a loopback peer, Envoy appends one of its own addresses.
		{"hops, loopback", appended, send(xff, "203.0.113.9, 10.0.0.1").from("127.0.0.1"), "203.0.113.9", xff, nil},
		{"hops, loopback of another spelling", appended, send(xff, "203.0.113.9, 10.0.0.1").from("::ffff:127.9.9.9"), "203.0.113.9", xff, nil},
		{"hops, loopback IPv6", appended, send(xff, "203.0.113.9, 2001:db8::1").from("::1"), "203.0.113.9", xff, nil},
		// For a unix socket, Envoy appends nothing, so the last entry would be the client's own.
		{"hops, unix socket, spoofed on the left", appended, send(xff, "198.51.100.5, 203.0.113.9").from(""), "", "peer", errNoPeer},
		{"hops, not appended, unix socket", plain, send(xff, "198.51.100.5, 203.0.113.9").from(""), "203.0.113.9", xff, nil},
		// … and without it.
		{"hops, not appended", plain, send(xff, "198.51.100.5, 203.0.113.9"), "203.0.113.9", xff, nil},
		{"hops, not appended, one entry", plain, send(xff, "203.0.113.9"), "203.0.113.9", xff, nil},
		{"hops, not appended, empty header", plain, send(xff, ""), "", xff, errNotAnAddr},
		{"hops, not appended, too few", TrustedHops(2, false, WithoutPort), send(xff, "203.0.113.9"), "", xff, errFewEntries},

		// Ports, as Azure's Application Gateway writes them.
		{"ports, proxies", TrustedProxies(ten, WithPort), send(xff, "203.0.113.7:51008, 10.0.0.2:80").from("10.0.0.1"), "203.0.113.7", xff, nil},
		{"ports, proxies, IPv6", TrustedProxies(ten, WithPort), send(xff, "[2001:db8::7]:443").from("10.0.0.1"), "2001:db8::7", xff, nil},
		{"ports, proxies, none", TrustedProxies(ten, WithPort), send(xff, "203.0.113.7").from("10.0.0.1"), "203.0.113.7", xff, nil},
		{"ports, proxies, IPv4-mapped", TrustedProxies(ten, WithPort), send(xff, "[::ffff:203.0.113.7]:1").from("10.0.0.1"), "203.0.113.7", xff, nil},
		{"ports, hops", TrustedHops(1, true, WithPort), send(xff, "198.51.100.5, 203.0.113.7:51008, 192.0.2.1"), "203.0.113.7", xff, nil},
		{"ports, header", AddressHeader("x-client-ip", nil, WithPort), send("x-client-ip", "203.0.113.7:51008"), "203.0.113.7", "header x-client-ip", nil},
		{"ports, brackets without a port", TrustedProxies(ten, WithPort), send(xff, "[2001:db8::7]").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"ports, brackets around IPv4", TrustedProxies(ten, WithPort), send(xff, "[203.0.113.7]:1").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"ports, too high", TrustedProxies(ten, WithPort), send(xff, "203.0.113.7:65536").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"ports, a name", TrustedProxies(ten, WithPort), send(xff, "203.0.113.7:http").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"ports, empty", TrustedProxies(ten, WithPort), send(xff, "203.0.113.7:").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"ports, a zone", TrustedProxies(ten, WithPort), send(xff, "[fe80::1%eth0]:1").from("10.0.0.1"), "", xff, errNotAnAddr},
		{"ports, the peer has none", TrustedProxies(ten, WithPort), send(xff, "203.0.113.7").from("10.0.0.1:80"), "", "peer", errNoPeer},

		// Header: exactly one address.
		{"header", client, send("x-client-ip", "203.0.113.9"), "203.0.113.9", "header x-client-ip", nil},
		{"header, IPv6", client, send("x-client-ip", "2001:db8::9"), "2001:db8::9", "header x-client-ip", nil},
		{"header, IPv4-mapped", client, send("x-client-ip", "::ffff:203.0.113.9"), "203.0.113.9", "header x-client-ip", nil},
		{"header, not x-forwarded-for", client, send(xff, "203.0.113.9"), "", "header x-client-ip", errNoHeader},
		{"header, missing", client, send(), "", "header x-client-ip", errNoHeader},
		{"header, empty", client, send("x-client-ip", ""), "", "header x-client-ip", errNotAnAddr},
		{"header, twice", client, send("x-client-ip", "203.0.113.9", "x-client-ip", "203.0.113.9"), "", "header x-client-ip", errRepeated},
		{"header, a list", client, send("x-client-ip", "203.0.113.9, 10.0.0.1"), "", "header x-client-ip", errRepeated},
		{"header, with a port", client, send("x-client-ip", "203.0.113.9:80"), "", "header x-client-ip", errHasPort},
		{"header, with spaces", client, send("x-client-ip", " 203.0.113.9"), "", "header x-client-ip", errNotAnAddr},
		{"header, with a zone", client, send("x-client-ip", "fe80::1%1"), "", "header x-client-ip", errNotAnAddr},
		{"header, from a trusted proxy", trusting, send("x-client-ip", "203.0.113.9").from("10.0.0.1"), "203.0.113.9", "header x-client-ip", nil},
		{"header, from a trusted proxy, IPv4-mapped", trusting, send("x-client-ip", "203.0.113.9").from("::ffff:10.0.0.1"), "203.0.113.9", "header x-client-ip", nil},
		{"header, from another peer", trusting, send("x-client-ip", "203.0.113.9"), "", "header x-client-ip", errUntrustedPeer},
		{"header, from another peer, that forwards", trusting, send("x-client-ip", "203.0.113.9", xff, "10.0.0.1"), "", "header x-client-ip", errUntrustedPeer},
		{"header, from a unix socket", trusting, send("x-client-ip", "203.0.113.9").from(""), "", "header x-client-ip", errNoPeer},
		{"header, missing from a trusted proxy", trusting, send().from("10.0.0.1"), "", "header x-client-ip", errNoHeader},
		{"header, with _", client, send("x_client_ip", "203.0.113.9"), "", "header x-client-ip", errNoHeader},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for form, a := range tt.ask.forms {
				addr, from, err := tt.source.Find(a)
				got := ""
				if addr.IsValid() {
					got = addr.String()
				}
				if got != tt.want || from != tt.from || !errors.Is(err, tt.err) {
					t.Errorf("%s: got %q from %q (%v), want %q from %q (%v)", form, got, from, err, tt.want, tt.from, tt.err)
				}
			}
			checkAddressDecides(t, tt.source, tt.ask, tt.want)
		})
	}
}

// checkAddressDecides checks that the client address decides: a key that lists only this address is
// allowed, a key that lists all others is refused, and without a client address even a key that lists
// every address is refused.
func checkAddressDecides(t *testing.T, source AddressSource, a ask, client string) {
	t.Helper()
	everyone := []string{"0.0.0.0/0", "::/0"}
	cfg := Config{ClientAddress: source, Authorizer: authorizer(keyFor("all", everyone...), keyFor("free"))}
	if client != "" {
		cfg.Authorizer = authorizer(keyFor("all", everyone...), keyFor("one", client), keyFor("free"))
	}
	c := checker(t, cfg)
	with := func(secret string) ask {
		b := a
		b.headers = append(slices.Clip(b.headers), Field{"x-api-key", secret})
		return b
	}
	wantAll := "VALID"
	if client == "" {
		wantAll = "FORBIDDEN"
	} else if code := codeOf(t, check(t, c, with("one"))); code != "VALID" {
		t.Errorf("a key listed for %s alone got %s", client, code)
	}
	if code := codeOf(t, check(t, c, with("all"))); code != wantAll {
		t.Errorf("a key listed for every address got %s, want %s", code, wantAll)
	}
	free := check(t, c, with("free"))
	if code := codeOf(t, free); code != "VALID" {
		t.Errorf("a key without a whitelist got %s", code)
	}
	if got := headerOf(free.SetHeaders, clientAddrHeader); got != client {
		t.Errorf("%s is %q, want %q", clientAddrHeader, got, client)
	}
}

// TestAddressErrors: errors contain the value, or the range that contains all of a chain.
func TestAddressErrors(t *testing.T) {
	for _, tt := range []struct {
		source AddressSource
		ask    ask
		want   string
	}{
		{lb, send("x-forwarded-for", "203.0.113.7:51008").from("10.0.0.1"), `the value has a port, and ports is not set: "203.0.113.7:51008"`},
		{lb, send("x-forwarded-for", "un\x01known").from("10.0.0.1"), `the value is not an IP address: "un\x01known"`},
		{lb, send("x-forwarded-for", strings.Repeat("x", 500)).from("10.0.0.1"), `the value is not an IP address: "` + strings.Repeat("x", 64) + `"`},
		{lb, send("x-forwarded-for", "10.9.8.7, 2001:db8:1::2").from("10.0.0.1"), `every entry is a trusted proxy: the first, "10.9.8.7", is in 10.0.0.0/8`},
		{lb, send("x-forwarded-for", "2001:db8:1::2").from("10.0.0.1"), `every entry is a trusted proxy: the first, "2001:db8:1::2", is in 2001:db8:1::/48`},
		{TrustedHops(1, true, WithoutPort), send("x-forwarded-for", "203.0.113.7, 198.51.100.9"), `the last entry is not the peer's address, so Envoy did not append it: "198.51.100.9"`},
		{AddressHeader("x-client-ip", nil, WithoutPort), send("x-client-ip", "me"), `the value is not an IP address: "me"`},
	} {
		for _, a := range tt.ask.forms {
			if _, _, err := tt.source.Find(a); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		}
	}
}

// FuzzForwardedFor compares the result with that of a naive implementation.
func FuzzForwardedFor(f *testing.F) {
	for _, seed := range []string{"", "1.2.3.4", "1.2.3.4, 10.0.0.1", ",", "x, 10.1.1.1 ,10.2.2.2", "::ffff:10.0.0.1", "1.1.1.1\t,\t::ffff:a00:1"} {
		f.Add("10.0.0.1", seed, 1, true)
		f.Add("8.8.8.8", seed, 2, false)
	}
	f.Fuzz(func(t *testing.T, peer, list string, n int, appended bool) {
		a := Attributes{Peer: peer, Headers: []Field{{fromForwardedFor, list}}}
		addr, _, err := lb.Find(&a)
		if want := naiveProxies(peer, list); addr != want || (err == nil) != want.IsValid() {
			t.Errorf("TrustedProxies(%q from %q) = %v, %v; want %v", list, peer, addr, err, want)
		}
		if n < 1 {
			return
		}
		addr, _, err = TrustedHops(n, appended, WithoutPort).Find(&a)
		if want := naiveHops(peer, list, n, appended); addr != want || (err == nil) != want.IsValid() {
			t.Errorf("TrustedHops(%d, %v)(%q from %q) = %v, %v; want %v", n, appended, list, peer, addr, err, want)
		}
	})
}
