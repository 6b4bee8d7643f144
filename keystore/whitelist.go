package keystore

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/gaissmai/bart"
)

// tableFrom is the number of ranges from which a whitelist is a table. A table is faster from
// 4 on (BenchmarkWhitelist), but takes some 400 bytes and more, and there may be 100,000
// short lists, so those are scanned.
const tableFrom = 8

// A Whitelist is the set of client addresses from which a key may be used. It is immutable
// and safe for concurrent use. The zero value holds no address, so that a key whose whitelist
// was never set refuses everyone; a key that may be used from everywhere says so by
// [Anywhere].
type Whitelist struct {
	anywhere bool
	prefixes []netip.Prefix
	table    *bart.Lite // set from tableFrom prefixes on
}

// Anywhere is the whitelist of a key that is not restricted by address.
func Anywhere() Whitelist { return Whitelist{anywhere: true} }

// NewWhitelist returns the set of all addresses in the prefixes, which are as
// [ParseWhitelistEntry] returns them. Order and duplicates are kept for display; no prefixes
// at all give the empty set.
func NewWhitelist(prefixes []netip.Prefix) Whitelist {
	w := Whitelist{prefixes: slices.Clone(prefixes)}
	if len(prefixes) >= tableFrom {
		w.table = new(bart.Lite)
		for _, p := range prefixes {
			w.table.Insert(p)
		}
	}
	return w
}

// Contains reports whether addr is in the whitelist. An IPv4-mapped IPv6 address counts as
// its IPv4 address. The zero [netip.Addr], no address, and addresses with a zone are only in
// [Anywhere].
func (w Whitelist) Contains(addr netip.Addr) bool {
	if w.anywhere {
		return true
	}
	if addr.Zone() != "" { // before Unmap, which drops it
		return false
	}
	addr = addr.Unmap()
	if w.table != nil {
		return addr.IsValid() && w.table.Contains(addr)
	}
	for _, p := range w.prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// Restricted reports whether the whitelist leaves any address out: whether it is anything but
// [Anywhere].
func (w Whitelist) Restricted() bool { return !w.anywhere }

// Prefixes returns the ranges as they were given; a single address is a range of full length.
// It is nil for [Anywhere]. The caller must not change it.
func (w Whitelist) Prefixes() []netip.Prefix { return w.prefixes }

// Equal reports whether both hold the same ranges in the same order, or are both [Anywhere].
func (w Whitelist) Equal(o Whitelist) bool {
	return w.anywhere == o.anywhere && slices.Equal(w.prefixes, o.prefixes)
}

// FormatWhitelistEntry returns p as [ParseWhitelistEntry] reads it: a single address without
// its length.
func FormatWhitelistEntry(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// ParseWhitelistEntry reads an IPv4 or IPv6 address or a CIDR range (RFC 4632, RFC 4291
// section 2.3). IPv4-mapped IPv6 addresses and ranges of at least 96 bits become IPv4. Every
// error says what to write instead.
func ParseWhitelistEntry(s string) (netip.Prefix, error) {
	switch t := strings.TrimSpace(s); {
	case t == "":
		return netip.Prefix{}, errors.New("an empty entry: write an IP address or a CIDR range, such as 192.0.2.7 or 192.0.2.0/24")
	case t != s:
		return netip.Prefix{}, fmt.Errorf("%q has spaces around it: write %q", s, t)
	}
	if strings.Contains(s, "%") {
		return netip.Prefix{}, fmt.Errorf("%q has a zone, which means something on one machine only: write %s", s, suggest(withoutZone(s)))
	}
	host, length, isRange := strings.Cut(s, "/")
	addr, err := parseWhitelistAddr(s, host, length)
	if err != nil {
		return netip.Prefix{}, err
	}
	bits := addr.BitLen()
	if isRange {
		if bits, err = parsePrefixLen(s, host, length, addr); err != nil {
			return netip.Prefix{}, err
		}
	}
	shown := s
	if addr.Is4In6() {
		if bits < 96 {
			return netip.Prefix{}, fmt.Errorf("%s is an IPv4-mapped range shorter than /96, so it reaches past IPv4: write the IPv4 range itself, such as %s/8", s, addr.Unmap())
		}
		addr, bits = addr.Unmap(), bits-96
		shown = fmt.Sprintf("%s, which is %s/%d,", s, addr, bits)
	}
	p := netip.PrefixFrom(addr, bits)
	if masked := p.Masked(); masked != p {
		return netip.Prefix{}, fmt.Errorf("%s has bits set after the first %d: did you mean %s, or the one address %s?", shown, bits, masked, addr)
	}
	return p, nil
}

func parseWhitelistAddr(entry, host, length string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(host)
	if err == nil {
		return addr, nil
	}
	switch {
	case strings.Contains(host, "*"):
		return netip.Addr{}, fmt.Errorf("%q has a wildcard: write a CIDR range, such as 10.1.0.0/16 for 10.1.*.*", entry)
	case isAddressRange(host):
		return netip.Addr{}, fmt.Errorf("%q is a range written with '-': write one or more CIDR ranges, such as 192.0.2.0/24", entry)
	case hasLeadingZero(host):
		return netip.Addr{}, fmt.Errorf("%q has leading zeros, which some programs read as octal: write %s", entry, suggest(withoutLeadingZeros(entry)))
	case strings.Contains(host, "[") || strings.Count(host, ".") == 3 && strings.Contains(host, ":") && !strings.HasPrefix(host, ":"):
		return netip.Addr{}, fmt.Errorf("%q has brackets or a port: write the address alone, such as 192.0.2.7 or 2001:db8::7", entry)
	case isDottedDecimal(host) && strings.Count(host, ".") < 3:
		// Without a length no guess is made: 127.1 is 127.0.0.1 to some programs.
		full := host + strings.Repeat(".0", 3-strings.Count(host, ".")) + "/" + length
		return netip.Addr{}, fmt.Errorf("%q is a short form of IPv4, and programs differ on what it means: write %s", entry, suggest(full))
	case strings.ContainsAny(strings.ToLower(host), "ghijklmnopqrstuvwxyz") && !strings.Contains(host, ":"):
		return netip.Addr{}, fmt.Errorf("%q is a name, and names are not looked up: write its IP address or a CIDR range", entry)
	}
	return netip.Addr{}, fmt.Errorf("%q is not an IP address or a CIDR range: write one such as 192.0.2.7, 192.0.2.0/24, 2001:db8::7 or 2001:db8::/32", entry)
}

func parsePrefixLen(entry, host, length string, addr netip.Addr) (int, error) {
	maxBits := addr.BitLen()
	bits, err := strconv.Atoi(length)
	switch {
	case err == nil && strconv.Itoa(bits) == length && bits >= 0 && bits <= maxBits:
		return bits, nil
	case err == nil && bits >= 0 && bits <= maxBits: // 08, +8
		return 0, fmt.Errorf("%q has a range length that is not plainly written: write %s", entry, suggest(fmt.Sprintf("%s/%d", host, bits)))
	case addr.Is4() && strings.Contains(length, "."):
		if ones, ok := netmaskBits(length); ok {
			return 0, fmt.Errorf("%q gives its length as a netmask: write %s", entry, suggest(fmt.Sprintf("%s/%d", host, ones)))
		}
	}
	return 0, fmt.Errorf("%q has no range length from 0 to %d after its '/': write one such as %s/%d", entry, maxBits, host, maxBits)
}

// suggest returns what to write in an entry's place: the candidate, if it is one or nearly.
func suggest(candidate string) string {
	if p, err := netip.ParsePrefix(candidate); err == nil {
		return p.Masked().String()
	}
	if a, err := netip.ParseAddr(candidate); err == nil {
		return a.String()
	}
	return "an address or a range such as 192.0.2.7 or 192.0.2.0/24"
}

// withoutZone returns the entry without what stands between its '%' and its '/'.
func withoutZone(entry string) string {
	address, rest, _ := strings.Cut(entry, "%")
	if i := strings.Index(rest, "/"); i >= 0 {
		return address + rest[i:]
	}
	return address
}

func isAddressRange(host string) bool {
	from, _, ok := strings.Cut(host, "-")
	_, err := netip.ParseAddr(strings.TrimSpace(from))
	return ok && err == nil
}

func isDottedDecimal(host string) bool {
	return host != "" && strings.Trim(host, "0123456789.") == "" && !strings.Contains(host, "..") &&
		!strings.HasPrefix(host, ".") && !strings.HasSuffix(host, ".")
}

func hasLeadingZero(host string) bool {
	if !isDottedDecimal(host) {
		return false
	}
	return slices.ContainsFunc(strings.Split(host, "."), func(n string) bool { return len(n) > 1 && n[0] == '0' })
}

func withoutLeadingZeros(entry string) string {
	host, length, isRange := strings.Cut(entry, "/")
	numbers := strings.Split(host, ".")
	for i, n := range numbers {
		if numbers[i] = strings.TrimLeft(n, "0"); numbers[i] == "" {
			numbers[i] = "0"
		}
	}
	if host = strings.Join(numbers, "."); isRange {
		return host + "/" + length
	}
	return host
}

// netmaskBits returns the number of leading ones of a netmask such as 255.255.0.0.
func netmaskBits(s string) (int, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return 0, false
	}
	b := a.As4()
	bits := fmt.Sprintf("%08b%08b%08b%08b", b[0], b[1], b[2], b[3])
	ones := strings.TrimRight(bits, "0")
	return len(ones), !strings.Contains(ones, "0")
}
