package keystore

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// tableSize is the number of ranges from which a whitelist is stored as a table. A table is
// faster from 4 ranges on (BenchmarkWhitelist), but takes 400 bytes or more. There may be
// 100,000 short lists, so these are searched in order.
const tableSize = 8

// A Whitelist is the set of client addresses from which a key may be used. It is immutable
// and safe for concurrent use. The zero value holds no address, so that a key whose whitelist
// was never set refuses everyone; the whitelist of a key that may be used from everywhere is
// [Anywhere].
type Whitelist struct {
	anywhere bool
	prefixes []netip.Prefix
	table    *bart.Lite // set if there are at least tableSize prefixes
}

// Anywhere is the whitelist of a key that is not restricted by address.
func Anywhere() Whitelist { return Whitelist{anywhere: true} }

// NewWhitelist returns the set of all addresses in the prefixes, which must be as
// [ParseWhitelistEntry] returns them. Order and duplicates are kept for display. Without
// prefixes the set is empty.
func NewWhitelist(prefixes []netip.Prefix) Whitelist {
	w := Whitelist{prefixes: slices.Clone(prefixes)}
	if len(prefixes) >= tableSize {
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

// Restricted reports whether the whitelist is anything but [Anywhere].
func (w Whitelist) Restricted() bool { return !w.anywhere }

// Prefixes returns the ranges in the order in which they were given; a single address is a range
// of full length. It is nil for [Anywhere]. The caller must not modify it.
func (w Whitelist) Prefixes() []netip.Prefix { return w.prefixes }

// Equal reports whether both have the same ranges in the same order, or both are [Anywhere].
func (w Whitelist) Equal(o Whitelist) bool {
	return w.anywhere == o.anywhere && slices.Equal(w.prefixes, o.prefixes)
}

// FormatWhitelistEntry returns p in the form that [ParseWhitelistEntry] reads, a single address
// without its length.
func FormatWhitelistEntry(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
