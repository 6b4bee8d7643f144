package usage

import "net/netip"

// The reasons why an address may not belong in a whitelist.
const (
	Private       = "private"       // used by other hosts in other networks (RFC 1918, RFC 4193)
	CGNAT         = "cgnat"         // shared by a provider's customers (RFC 6598)
	LinkLocal     = "link-local"    // valid on one link only
	Loopback      = "loopback"      // the machine itself
	Documentation = "documentation" // never routed (RFC 5737, RFC 3849)
	Shared        = "shared"        // used by keys of other owners too: a NAT, or a VPN exit
)

var special = []struct {
	flag     string
	networks []netip.Prefix
}{
	{Private, prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")},
	{CGNAT, prefixes("100.64.0.0/10")},
	{LinkLocal, prefixes("169.254.0.0/16", "fe80::/10")},
	{Loopback, prefixes("127.0.0.0/8", "::1/128")},
	{Documentation, prefixes("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")},
}

func prefixes(list ...string) []netip.Prefix {
	p := make([]netip.Prefix, len(list))
	for i, s := range list {
		p[i] = netip.MustParsePrefix(s)
	}
	return p
}

// SpecialPurpose returns the special purpose of a network, such as [Private], or "".
func SpecialPurpose(network netip.Prefix) string {
	for _, s := range special {
		for _, p := range s.networks {
			if p.Overlaps(network) {
				return s.flag
			}
		}
	}
	return ""
}
