package keystore

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// ParseWhitelistEntry parses an IPv4 or IPv6 address or a CIDR range (RFC 4632, RFC 4291
// section 2.3). IPv4-mapped IPv6 addresses and ranges of at least 96 bits become IPv4. Every
// error says what to write instead.
func ParseWhitelistEntry(s string) (netip.Prefix, error) {
	if err := checkSingleEntry(s); err != nil {
		return netip.Prefix{}, err
	}
	if strings.Contains(s, "%") {
		return netip.Prefix{}, fmt.Errorf("%q has a zone, which is valid on one machine only: write %s", s, suggest(withoutZone(s)))
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

// checkSingleEntry returns an error if s holds anything but one entry: none, several, or one
// with other text or separators beside it.
func checkSingleEntry(s string) error {
	const separators = ",;|"
	parts := strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(separators, r) })
	switch joined := strings.Join(parts, ""); {
	case len(parts) == 0:
		return errors.New("an empty entry: write an IP address or a CIDR range, such as 192.0.2.7 or 192.0.2.0/24")
	case parts[0] == s:
		return nil
	case parts[0] == strings.TrimSpace(s):
		return fmt.Errorf("%q has spaces around it: write %q", s, parts[0])
	case len(parts) == 1:
		return fmt.Errorf("%q has a separator beside it: write %q", s, parts[0])
	case startsWithAddr(joined) && (strings.HasSuffix(parts[0], "/") || strings.HasPrefix(parts[1], "/")):
		return fmt.Errorf("%q has a space in it: write %q", s, joined)
	case strings.ContainsAny(s, separators), !slices.ContainsFunc(parts, func(p string) bool { return !looksLikeEntry(p) }):
		n := strconv.Itoa(len(parts))
		if len(parts) == 2 {
			n = "two"
		}
		return fmt.Errorf("%q holds %s entries in one: write each by itself, as in %s and %s", s, n, parts[0], parts[1])
	case startsWithAddr(parts[0]) && parts[1] != "-":
		return fmt.Errorf("%q has other text after its entry: write %s by itself", s, parts[0])
	}
	return nil
}

// looksLikeEntry reports whether s may be meant as an address or a range.
func looksLikeEntry(s string) bool {
	return strings.Contains(s, ":") || s[0] >= '0' && s[0] <= '9'
}

// startsWithAddr reports whether s is an IP address, with or without anything after a slash.
func startsWithAddr(s string) bool {
	host, _, _ := strings.Cut(s, "/")
	_, err := netip.ParseAddr(host)
	return err == nil
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
		return 0, fmt.Errorf("%q has a range length that is not a plain number: write %s", entry, suggest(fmt.Sprintf("%s/%d", host, bits)))
	case addr.Is4() && strings.Contains(length, "."):
		if ones, ok := netmaskBits(length); ok {
			return 0, fmt.Errorf("%q gives its length as a netmask: write %s", entry, suggest(fmt.Sprintf("%s/%d", host, ones)))
		}
	}
	// No length is suggested for this very address: any would allow more or fewer addresses than
	// were meant.
	example := "192.0.2.0/24"
	if addr.Is6() {
		example = "2001:db8::/32"
	}
	return 0, fmt.Errorf("%q has no range length from 0 to %d after its '/': write one, as in %s", entry, maxBits, example)
}

// suggest returns what to write instead of an entry: the candidate, if it is valid apart from host
// bits, or else an example.
func suggest(candidate string) string {
	if p, err := netip.ParsePrefix(candidate); err == nil {
		return p.Masked().String()
	}
	if a, err := netip.ParseAddr(candidate); err == nil {
		return a.String()
	}
	return "an address or a range such as 192.0.2.7 or 192.0.2.0/24"
}

// withoutZone returns the entry without the text from its '%' to its '/'.
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

// netmaskBits returns the number of leading ones of a netmask such as 255.255.0.0, and whether s
// is one.
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
