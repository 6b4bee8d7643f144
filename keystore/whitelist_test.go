package keystore_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

func TestParseWhitelistEntry(t *testing.T) {
	for entry, want := range map[string]string{
		"192.0.2.7":               "192.0.2.7",
		"192.0.2.7/32":            "192.0.2.7",
		"10.0.0.0/8":              "10.0.0.0/8",
		"0.0.0.0/0":               "0.0.0.0/0",
		"0.0.0.0":                 "0.0.0.0",
		"255.255.255.254/31":      "255.255.255.254/31",
		"2001:db8::7":             "2001:db8::7",
		"2001:DB8::/32":           "2001:db8::/32",
		"2001:db8:0:0::/127":      "2001:db8::/127",
		"::/0":                    "::/0",
		"::1/128":                 "::1",
		"::ffff:192.0.2.7":        "192.0.2.7", // mapped: as IPv4
		"::ffff:c000:207":         "192.0.2.7",
		"::ffff:10.0.0.0/104":     "10.0.0.0/8",
		"::ffff:0:0/96":           "0.0.0.0/0",
		"::1.2.3.4":               "::102:304", // not mapped
		"64:ff9b::192.0.2.33/128": "64:ff9b::c000:221",
	} {
		p, err := keystore.ParseWhitelistEntry(entry)
		if err != nil || keystore.FormatWhitelistEntry(p) != want {
			t.Errorf("%s: %v, %v; want %s", entry, p, err, want)
		}
	}
}

func TestParseWhitelistEntryRefuses(t *testing.T) {
	const (
		example = "an address or a range such as 192.0.2.7 or 192.0.2.0/24"
		empty   = "an empty entry: write an IP address or a CIDR range, such as 192.0.2.7 or 192.0.2.0/24"
		zone    = "%q has a zone, which is valid on one machine only: write %s"
		short   = "%q is a short form of IPv4, and programs differ on what it means: write %s"
		zeros   = "%q has leading zeros, which some programs read as octal: write %s"
		length  = "%q has no range length from 0 to %d after its '/': write one, as in %s"
		plain   = "%q has a range length that is not a plain number: write %s"
		netmask = "%q gives its length as a netmask: write %s"
		name    = "%q is a name, and names are not looked up: write its IP address or a CIDR range"
		dash    = "%q is a range written with '-': write one or more CIDR ranges, such as 192.0.2.0/24"
		star    = "%q has a wildcard: write a CIDR range, such as 10.1.0.0/16 for 10.1.*.*"
		two     = "%q holds two entries in one: write each by itself, as in %s and %s"
		space   = "%q has a space in it: write %q"
		bracket = "%q has brackets or a port: write the address alone, such as 192.0.2.7 or 2001:db8::7"
		mapped  = "%s is an IPv4-mapped range shorter than /96, so it reaches past IPv4: write the IPv4 range itself, such as %s"
		other   = "%q is not an IP address or a CIDR range: write one such as 192.0.2.7, 192.0.2.0/24, 2001:db8::7 or 2001:db8::/32"
	)
	for _, test := range []struct {
		entry, format string
		args          []any // after the entry
	}{
		{"10.1.2.3/8", "%s has bits set after the first 8: did you mean 10.0.0.0/8, or the one address 10.1.2.3?", nil},
		{"192.0.2.1/31", "%s has bits set after the first 31: did you mean 192.0.2.0/31, or the one address 192.0.2.1?", nil},
		{"2001:db8::1/32", "%s has bits set after the first 32: did you mean 2001:db8::/32, or the one address 2001:db8::1?", nil},
		{"::ffff:10.1.2.3/104", "%s, which is 10.1.2.3/8, has bits set after the first 8: did you mean 10.0.0.0/8, or the one address 10.1.2.3?", nil},
		{"::ffff:0:0/95", mapped, []any{"0.0.0.0/8"}},
		{"::ffff:10.0.0.0/8", mapped, []any{"10.0.0.0/8"}},
		{"::ffff:10.0.0.0/0", mapped, []any{"10.0.0.0/8"}},

		{"010.0.0.1", zeros, []any{"10.0.0.1"}},
		{"10.00.0.0/8", zeros, []any{"10.0.0.0/8"}},
		{"192.168.001.100", zeros, []any{"192.168.1.100"}},
		{"010.1/8", zeros, []any{example}},
		{"10", short, []any{example}},
		{"127.1", short, []any{example}},
		{"2130706433", short, []any{example}},
		{"10.0.0", short, []any{example}},
		{"10/8", short, []any{"10.0.0.0/8"}},
		{"10.1/16", short, []any{"10.1.0.0/16"}},
		{"0x7f.1", name, nil},
		{"0x7f000001", name, nil},

		{"fe80::1%eth0", zone, []any{"fe80::1"}},
		{"fe80::%eth0/64", zone, []any{"fe80::/64"}},
		{"fe80::1/64%eth0", zone, []any{"fe80::/64"}},
		{"::ffff:10.0.0.1%eth0", zone, []any{"::ffff:10.0.0.1"}},
		{"%", zone, []any{example}},
		{"example.com", name, nil},
		{"localhost", name, nil},
		{"acme-1.example", name, nil},
		{"null", name, nil},
		{"10.0.0.1-10.0.0.9", dash, nil},
		{"10.0.0.1 - 10.0.0.9", dash, nil},
		{"10.0.0.1-9", dash, nil},
		{"::1-::9", dash, nil},
		{"10.1.*.*", star, nil},
		{"*", star, nil},
		{"[2001:db8::7]", bracket, nil},
		{"[2001:db8::7]:80", bracket, nil},
		{"192.0.2.7:80", bracket, nil},

		{"10.0.0.0/33", length, []any{32, "192.0.2.0/24"}},
		{"10.0.0.0/-1", length, []any{32, "192.0.2.0/24"}},
		{"10.0.0.0/", length, []any{32, "192.0.2.0/24"}},
		{"10.0.0.0/8/8", length, []any{32, "192.0.2.0/24"}},
		{"10.0.0.0/*", length, []any{32, "192.0.2.0/24"}},
		{"10.0.0.0/0x8", length, []any{32, "192.0.2.0/24"}},
		{"10.0.0.0/255.0.255.0", length, []any{32, "192.0.2.0/24"}},
		{"10.0.0.0/99999999999999999999", length, []any{32, "192.0.2.0/24"}},
		{"2001:db8::/129", length, []any{128, "2001:db8::/32"}},
		{"2001:db8::/255.0.0.0", length, []any{128, "2001:db8::/32"}},
		{"10.0.0.0/08", plain, []any{"10.0.0.0/8"}},
		{"10.0.0.0/+8", plain, []any{"10.0.0.0/8"}},
		{"10.0.0.0/255.0.0.0", netmask, []any{"10.0.0.0/8"}},
		{"10.1.2.3/255.0.0.0", netmask, []any{"10.0.0.0/8"}},
		{"10.1.2.3/0.0.0.0", netmask, []any{"0.0.0.0/0"}},

		{"10.0.0.0/8, 10.1.0.0/16", two, []any{"10.0.0.0/8", "10.1.0.0/16"}},
		{"10.0.0.1,10.0.0.2", two, []any{"10.0.0.1", "10.0.0.2"}},
		{"10.0.0.0/8;10.1.0.0/16", two, []any{"10.0.0.0/8", "10.1.0.0/16"}},
		{"10.0.0.0/8 | 2001:db8::/32", two, []any{"10.0.0.0/8", "2001:db8::/32"}},
		{"10.0.0.0/8 2001:db8::/32", two, []any{"10.0.0.0/8", "2001:db8::/32"}},
		{"10.0.0.0/8\n10.1.0.0/16\n", two, []any{"10.0.0.0/8", "10.1.0.0/16"}},
		{"10.0.0.0/8, 10.1.*.*", two, []any{"10.0.0.0/8", "10.1.*.*"}},
		{"10.1.2.3/8 10.0/8", two, []any{"10.1.2.3/8", "10.0/8"}},
		{"office, 10.0.0.1", two, []any{"office", "10.0.0.1"}},
		{"10.0.0.1, 10.0.0.2, 10.0.0.3", "%q holds 3 entries in one: write each by itself, as in 10.0.0.1 and 10.0.0.2", nil},
		{"10.0.0.0/8,", "%q has a separator beside it: write \"10.0.0.0/8\"", nil},
		{"10.0.0.0 /8", space, []any{"10.0.0.0/8"}},
		{"10.0.0.0/ 8", space, []any{"10.0.0.0/8"}},
		{"10.0.0.0 / 8", space, []any{"10.0.0.0/8"}},
		{"10.0.0.0/8 # office", "%q has other text after its entry: write 10.0.0.0/8 by itself", nil},
		{"10.0.0.1 (office 2)", "%q has other text after its entry: write 10.0.0.1 by itself", nil},

		{"10.0.0.256", other, nil},
		{"1.2.3.4.5", other, nil},
		{"10..0.1", other, nil},
		{"10.0.0.", other, nil},
		{"2001:db8", other, nil},
		{"::1::2", other, nil},
		{"::gggg", other, nil},
		{"/8", other, nil},
		{"١٠.0.0.1", other, nil},
		{"::ffff:010.0.0.1", other, nil},
	} {
		want := fmt.Sprintf(test.format, append([]any{test.entry}, test.args...)...)
		if p, err := keystore.ParseWhitelistEntry(test.entry); err == nil || err.Error() != want || p.IsValid() {
			t.Errorf("%s:\ngot  %v (%v)\nwant %s", test.entry, err, p, want)
		}
	}
	for entry, want := range map[string]string{
		"":            empty,
		" \t":         empty,
		" 10.0.0.1":   `" 10.0.0.1" has spaces around it: write "10.0.0.1"`,
		"10.0.0.0/8 ": `"10.0.0.0/8 " has spaces around it: write "10.0.0.0/8"`,
	} {
		if p, err := keystore.ParseWhitelistEntry(entry); err == nil || err.Error() != want || p.IsValid() {
			t.Errorf("%q:\ngot  %v (%v)\nwant %s", entry, err, p, want)
		}
	}
}

func TestWhitelistContains(t *testing.T) {
	const padding = "203.0.113.77" // repeated, it makes a table of any whitelist
	var forms [2]keystore.Whitelist
	for i, pad := range []int{0, 100} {
		forms[i] = storetest.Whitelist(slices.Concat([]string{
			"10.0.0.0/8", "192.0.2.64/26", "198.51.100.7", "0.0.0.0/32", "2001:db8::/32", "2001:db9::7", "fe80::/10",
			"::ffff:172.16.0.0/108", padding,
		}, slices.Repeat([]string{padding}, pad))...)
	}
	check := func(want bool, addrs ...string) {
		t.Helper()
		for _, s := range addrs {
			var addr netip.Addr // for "", which is no address
			if s != "" {
				addr = netip.MustParseAddr(s)
			}
			for i, w := range forms {
				if w.Contains(addr) != want {
					t.Errorf("%s, form %d: %t, want %t", s, i, !want, want)
				}
			}
			if !keystore.Anywhere().Contains(addr) {
				t.Errorf("%s is not in Anywhere", s)
			}
			if (keystore.Whitelist{}).Contains(addr) || keystore.NewWhitelist(nil).Contains(addr) {
				t.Errorf("%s is in an empty whitelist", s)
			}
		}
	}
	check(true, "10.0.0.0", "10.255.255.255", "192.0.2.64", "192.0.2.127", "198.51.100.7", "0.0.0.0",
		"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::7", "fe80::1", "febf::1",
		"172.16.0.0", "172.31.255.255", padding)
	check(true, "::ffff:10.0.0.1", "::ffff:c000:240", "::ffff:172.16.0.1") // mapped
	check(false, "9.255.255.255", "11.0.0.0", "192.0.2.63", "192.0.2.128", "198.51.100.6", "198.51.100.8", "0.0.0.1",
		"2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::", "2001:db9::6", "2001:db9::8", "fec0::", "172.32.0.0", "172.15.255.255")
	check(false, "::ffff:11.0.0.0", "::10.0.0.1", "::a00:1", "64:ff9b::10.0.0.1", "2002:a00:1::", "::") // other embeddings of IPv4
	check(false, "fe80::1%eth0", "2001:db8::1%1", "::ffff:10.0.0.1%eth0")                               // zones
	check(false, "")
}

func TestWhitelistWarning(t *testing.T) {
	for entries, want := range map[string]string{
		"0.0.0.0/0":                      "no IPv6 address: add ::/0",
		"::ffff:0:0/96":                  "no IPv6 address",
		"0.0.0.0/1 128.0.0.0/1 10.0.0.1": "no IPv6 address",
		"::/0":                           "no IPv4 address: add 0.0.0.0/0",
		"::/1 8000::/1":                  "no IPv4 address",
		"0.0.0.0/0 ::/0":                 "",
		"0.0.0.0/0 2001:db8::/32":        "",
		"::/0 10.0.0.1":                  "",
		"0.0.0.0/1":                      "",
		"10.0.0.0/8 2001:db8::/32":       "",
	} {
		got := storetest.Whitelist(strings.Fields(entries)...).Warning()
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", entries, got, want)
		}
	}
	if got := keystore.Anywhere().Warning(); got != "" {
		t.Error(got)
	}
}

func TestWhitelistEqual(t *testing.T) {
	a, b := storetest.Whitelist("10.0.0.0/8", "::1"), storetest.Whitelist("::1", "10.0.0.0/8")
	for _, test := range []struct {
		a, b  keystore.Whitelist
		equal bool
	}{
		{a, a, true},
		{a, storetest.Whitelist("10.0.0.0/8", "::1"), true},
		{a, b, false},
		{a, keystore.Anywhere(), false},
		{keystore.Anywhere(), keystore.Anywhere(), true},
		{keystore.Anywhere(), keystore.Whitelist{}, false},
		{keystore.Whitelist{}, keystore.NewWhitelist(nil), true},
	} {
		if test.a.Equal(test.b) != test.equal || test.b.Equal(test.a) != test.equal {
			t.Errorf("%v and %v: want equal %t", test.a.Prefixes(), test.b.Prefixes(), test.equal)
		}
	}
}

// The argument of NewWhitelist may be modified afterwards.
func TestNewWhitelistCopies(t *testing.T) {
	prefixes := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	w := keystore.NewWhitelist(prefixes)
	prefixes[0] = netip.MustParsePrefix("0.0.0.0/0")
	if w.Contains(netip.MustParseAddr("192.0.2.1")) {
		t.Error("the whitelist changed with the caller's slice")
	}
}

// holdsBits is the oracle: it compares text bit by bit, while Contains compares words.
func holdsBits(p netip.Prefix, a netip.Addr) bool {
	bits := func(a netip.Addr) (s string) {
		for _, b := range a.AsSlice() {
			s += fmt.Sprintf("%08b", b)
		}
		return s
	}
	return p.Addr().BitLen() == a.BitLen() && strings.HasPrefix(bits(a), bits(p.Addr())[:p.Bits()])
}

// FuzzWhitelist reads ranges of 18 bytes each (family, where even is IPv4, length, address) and compares the
// answer for the address, by a scan and by a table, with the oracle's.
func FuzzWhitelist(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1}, []byte("\x04\x0810\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte{10, 0, 0, 1}, []byte("\x04\x20\x0a\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x01"), []byte("\x04\x08\x0a\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"), []byte("\x01\x20\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01")) //nolint:dupword // bytes, not words
	f.Fuzz(func(t *testing.T, address, ranges []byte) {
		addr, _ := netip.AddrFromSlice(address) // or no address
		var prefixes []netip.Prefix
		want := false
		for r := range slices.Chunk(ranges, 18) {
			if len(r) < 18 {
				break
			}
			a := netip.AddrFrom16([16]byte(r[2:])).Unmap()
			if r[0]%2 == 0 {
				a = netip.AddrFrom4([4]byte(r[2:]))
			}
			p := netip.PrefixFrom(a, int(r[1])%(a.BitLen()+1)).Masked()
			parsed, err := keystore.ParseWhitelistEntry(keystore.FormatWhitelistEntry(p))
			if err != nil {
				continue // a mapped range shorter than /96
			}
			prefixes = append(prefixes, parsed)
			want = want || addr.IsValid() && holdsBits(parsed, addr.Unmap())
		}
		if got := keystore.NewWhitelist(prefixes).Contains(addr); got != want {
			t.Errorf("%s in %v: %t, want %t", addr, prefixes, got, want)
		}
		if len(prefixes) == 0 {
			return
		}
		many := slices.Repeat(prefixes, 64) // a table, of the same set
		if got := keystore.NewWhitelist(many).Contains(addr); got != want {
			t.Errorf("%s in a table of %v: %t, want %t", addr, prefixes, got, want)
		}
	})
}

// FuzzParseWhitelistEntry: every accepted entry is masked, unmapped, and parses as itself again; every other
// entry has an error.
func FuzzParseWhitelistEntry(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "::ffff:10.0.0.1", "fe80::1%eth0/64", "10.0.0.1-9", "010.1/8", "%/", "[::1]:80", "10.0.0.0/255.0.0.0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := keystore.ParseWhitelistEntry(s)
		if err != nil {
			if p.IsValid() || err.Error() == "" {
				t.Fatalf("%q: %v beside the error %q", s, p, err)
			}
			return
		}
		if !p.IsValid() || p != p.Masked() || p.Addr().Zone() != "" || p.Addr().Is4In6() {
			t.Fatalf("%q gives %v", s, p)
		}
		again, err := keystore.ParseWhitelistEntry(keystore.FormatWhitelistEntry(p))
		if err != nil || again != p {
			t.Fatalf("%q: %v is written as %s and read as %v, %v", s, p, keystore.FormatWhitelistEntry(p), again, err)
		}
		// The standard library parses an accepted entry as the same range, if it is not mapped.
		if std, err := netip.ParsePrefix(s); err == nil && !std.Addr().Is4In6() && std != p {
			t.Fatalf("%q gives %v, not %v", s, p, std)
		}
	})
}
