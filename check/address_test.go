package check

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
)

// lb stands for a chain of load balancers at 10.0.0.0/8 and one IPv6 range.
var lb = TrustedProxies([]netip.Prefix{prefix("10.0.0.0/8"), prefix("2001:db8:1::/48")})

func TestClientAddress(t *testing.T) {
	const xff = "x-forwarded-for"
	appended, plain := TrustedHops(1, true), TrustedHops(1, false)
	client := AddressHeader("X-Client-IP")
	tests := []struct {
		name   string
		source AddressSource
		ask    ask
		want   string // empty: no client address
		from   string
		err    error
	}{
		// Peer: nothing that a caller can write changes it.
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

		// TrustedProxies: a peer that is none of them is the client, whatever it writes.
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
		{"proxies, empty header", lb, send(xff, "").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, empty entry on the right", lb, send(xff, "203.0.113.9,").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, empty entry in the walk", lb, send(xff, "203.0.113.9,,10.0.0.2").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, empty line of its own", lb, send(xff, "203.0.113.9", xff, "").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, garbage in the walk", lb, send(xff, "203.0.113.9, unknown, 10.0.0.2").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, obfuscated", lb, send(xff, "203.0.113.9, _hidden").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, with a port", lb, send(xff, "203.0.113.9:4711").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, with brackets", lb, send(xff, "[2001:db8::9]").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, with brackets and a port", lb, send(xff, "[2001:db8::9]:443").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, with a zone", lb, send(xff, "fe80::1%eth0").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, proxy with a zone", lb, send(xff, "203.0.113.9, 2001:db8:1::2%1").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, quoted", lb, send(xff, `"203.0.113.9"`).from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, leading zeros", lb, send(xff, "203.0.113.009").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, octal", lb, send(xff, "0313.0.0161.011").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, hexadecimal", lb, send(xff, "0xcb.0x0.0x71.0x9").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, one number", lb, send(xff, "3405803785").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, short form", lb, send(xff, "203.0.29001").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, a range", lb, send(xff, "203.0.113.9/32").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, other digits", lb, send(xff, "２03.0.113.9").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, space inside", lb, send(xff, "203.0. 113.9").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, other whitespace around", lb, send(xff, "203.0.113.9\v").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, non-breaking space", lb, send(xff, "203.0.113.9\u00a0").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, NUL", lb, send(xff, "203.0.113.9\x00").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, not UTF-8", lb, send(xff, "203.0.113.9\xff").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, semicolons", lb, send(xff, "203.0.113.9; 10.0.0.2").from("10.0.0.1"), "", xff, errBadEntry},
		{"proxies, all trusted", lb, send(xff, "10.0.0.3, 10.0.0.2").from("10.0.0.1"), "", xff, errAllTrusted},
		{"proxies, garbage left of all trusted", lb, send(xff, "x, 10.0.0.3").from("10.0.0.1"), "", xff, errBadEntry},

		// TrustedHops, with the entry that Envoy appended.
		{"hops", appended, send(xff, "203.0.113.9, 10.0.0.1"), "203.0.113.9", xff, nil},
		{"hops, spoofed on the left", appended, send(xff, "198.51.100.5, 203.0.113.9, 10.0.0.1"), "203.0.113.9", xff, nil},
		{"hops, spoofed line of its own", appended, send(xff, "198.51.100.5", xff, "203.0.113.9, 10.0.0.1"), "203.0.113.9", xff, nil},
		{"hops, garbage on the left", appended, send(xff, "unknown,, 203.0.113.9, 10.0.0.1"), "203.0.113.9", xff, nil},
		{"hops, the appended entry is not read", appended, send(xff, "203.0.113.9, unknown"), "203.0.113.9", xff, nil},
		{"hops, the appended entry is not read even if empty", appended, send(xff, "203.0.113.9,"), "203.0.113.9", xff, nil},
		{"hops, two", TrustedHops(2, true), send(xff, "203.0.113.9, 198.51.100.7, 10.0.0.1"), "203.0.113.9", xff, nil},
		{"hops, two, the one between is not read", TrustedHops(2, true), send(xff, "203.0.113.9,,"), "203.0.113.9", xff, nil},
		{"hops, two, spoofed", TrustedHops(2, true), send(xff, "198.51.100.5, 203.0.113.9, 198.51.100.7, 10.0.0.1"), "203.0.113.9", xff, nil},
		{"hops, IPv4-mapped, tabs", appended, send(xff, "\t::ffff:203.0.113.9\t, 10.0.0.1"), "203.0.113.9", xff, nil},
		{"hops, too few", appended, send(xff, "10.0.0.1"), "", xff, errFewEntries},
		{"hops, two, too few", TrustedHops(2, true), send(xff, "203.0.113.9, 10.0.0.1"), "", xff, errFewEntries},
		{"hops, very many", TrustedHops(1<<62, true), send(xff, "203.0.113.9, 10.0.0.1"), "", xff, errFewEntries},
		{"hops, most of all", TrustedHops(1<<63-1, true), send(xff, "203.0.113.9, 10.0.0.1"), "", xff, errFewEntries},
		{"hops, no header", appended, send(), "", xff, errNoHeader},
		{"hops, empty header", appended, send(xff, ""), "", xff, errFewEntries},
		{"hops, entry empty", appended, send(xff, "203.0.113.9,,10.0.0.1"), "", xff, errBadEntry},
		{"hops, entry with a port", appended, send(xff, "203.0.113.9:1, 10.0.0.1"), "", xff, errBadEntry},
		{"hops, which peer does not matter", appended, send(xff, "203.0.113.9, 10.0.0.1").from("10.9.9.9"), "203.0.113.9", xff, nil},
		// Envoy appends no unix socket, so the entry to set aside would be the client's own.
		{"hops, unix socket, spoofed on the left", appended, send(xff, "198.51.100.5, 203.0.113.9").from(""), "", "peer", errNoPeer},
		{"hops, not appended, unix socket", plain, send(xff, "198.51.100.5, 203.0.113.9").from(""), "203.0.113.9", xff, nil},
		// … and without it.
		{"hops, not appended", plain, send(xff, "198.51.100.5, 203.0.113.9"), "203.0.113.9", xff, nil},
		{"hops, not appended, one entry", plain, send(xff, "203.0.113.9"), "203.0.113.9", xff, nil},
		{"hops, not appended, empty header", plain, send(xff, ""), "", xff, errBadEntry},
		{"hops, not appended, too few", TrustedHops(2, false), send(xff, "203.0.113.9"), "", xff, errFewEntries},

		// Header: exactly one address.
		{"header", client, send("x-client-ip", "203.0.113.9"), "203.0.113.9", "header x-client-ip", nil},
		{"header, IPv6", client, send("x-client-ip", "2001:db8::9"), "2001:db8::9", "header x-client-ip", nil},
		{"header, IPv4-mapped", client, send("x-client-ip", "::ffff:203.0.113.9"), "203.0.113.9", "header x-client-ip", nil},
		{"header, not x-forwarded-for", client, send(xff, "203.0.113.9"), "", "header x-client-ip", errNoHeader},
		{"header, missing", client, send(), "", "header x-client-ip", errNoHeader},
		{"header, empty", client, send("x-client-ip", ""), "", "header x-client-ip", errNotAnAddr},
		{"header, twice", client, send("x-client-ip", "203.0.113.9", "x-client-ip", "203.0.113.9"), "", "header x-client-ip", errRepeated},
		{"header, a list", client, send("x-client-ip", "203.0.113.9, 10.0.0.1"), "", "header x-client-ip", errRepeated},
		{"header, with a port", client, send("x-client-ip", "203.0.113.9:80"), "", "header x-client-ip", errNotAnAddr},
		{"header, with spaces", client, send("x-client-ip", " 203.0.113.9"), "", "header x-client-ip", errNotAnAddr},
		{"header, with a zone", client, send("x-client-ip", "fe80::1%1"), "", "header x-client-ip", errNotAnAddr},
		{"header, with _", client, send("x_client_ip", "203.0.113.9"), "", "header x-client-ip", errNoHeader},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for form, a := range tt.ask.forms {
				addr, from, err := tt.source.find(a)
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

// checkAddressDecides holds the whole way to the client address: a key that is listed for it
// alone is let through with it, a key listed for all others is not, and without a client
// address neither is a key that may be used from every address.
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
	if got := header(free.SetHeaders, clientAddrHeader); got != client {
		t.Errorf("%s is %q, want %q", clientAddrHeader, got, client)
	}
}

// FuzzForwardedFor holds the walk against a second one, written the long way.
func FuzzForwardedFor(f *testing.F) {
	for _, seed := range []string{"", "1.2.3.4", "1.2.3.4, 10.0.0.1", ",", "x, 10.1.1.1 ,10.2.2.2", "::ffff:10.0.0.1", "1.1.1.1\t,\t::ffff:a00:1"} {
		f.Add("10.0.0.1", seed, 1, true)
		f.Add("8.8.8.8", seed, 2, false)
	}
	f.Fuzz(func(t *testing.T, peer, list string, n int, appended bool) {
		a := Attributes{Peer: peer, Headers: []Field{{fromForwardedFor, list}}}
		addr, _, err := lb.find(&a)
		if want := naiveProxies(peer, list); addr != want || (err == nil) != want.IsValid() {
			t.Errorf("TrustedProxies(%q from %q) = %v, %v; want %v", list, peer, addr, err, want)
		}
		if n < 1 {
			return
		}
		addr, _, err = TrustedHops(n, appended).find(&a)
		if want := naiveHops(peer, list, n, appended); addr != want || (err == nil) != want.IsValid() {
			t.Errorf("TrustedHops(%d, %v)(%q from %q) = %v, %v; want %v", n, appended, list, peer, addr, err, want)
		}
	})
}
