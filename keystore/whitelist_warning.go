package keystore

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// A WhitelistWarning is what is valid in a whitelist, but probably a mistake.
type WhitelistWarning struct {
	Index int // of the range it is about; -1 if it is about the whitelist as a whole
	Text  string
}

// Warnings returns what is probably a mistake in the whitelist: that it holds every address of one
// IP version or of both, and ranges that add no address because another range holds them all.
func (w Whitelist) Warnings() []WhitelistWarning {
	var warnings []WhitelistWarning
	if text := w.Warning(); text != "" {
		warnings = append(warnings, WhitelistWarning{-1, text})
	} else {
		for i, p := range w.prefixes {
			switch p {
			case allIPv4:
				warnings = append(warnings, WhitelistWarning{i, "0.0.0.0/0 lets every IPv4 address in: omit ip_whitelist if the key may be used from anywhere"})
			case allIPv6:
				warnings = append(warnings, WhitelistWarning{i, "::/0 lets every IPv6 address in: omit ip_whitelist if the key may be used from anywhere"})
			}
		}
	}
	return append(warnings, w.overlaps()...)
}

func (w Whitelist) overlaps() (warnings []WhitelistWarning) {
	if len(w.prefixes) < 2 {
		return nil
	}
	// In this order a range comes right before those within it, and the first of two equal
	// ones before the second.
	order := make([]int, len(w.prefixes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		p, q := w.prefixes[a], w.prefixes[b]
		return cmp.Or(p.Addr().Compare(q.Addr()), cmp.Compare(p.Bits(), q.Bits()))
	})
	outer := w.prefixes[order[0]]
	for _, i := range order[1:] {
		switch p := w.prefixes[i]; {
		case p == outer:
			warnings = append(warnings, WhitelistWarning{i, FormatWhitelistEntry(p) + " appears twice: keep one of them"})
		case outer.Contains(p.Addr()):
			warnings = append(warnings, WhitelistWarning{i, fmt.Sprintf("%s is within %s, which is in the list too: keep one of them", FormatWhitelistEntry(p), outer)})
		default:
			outer = p
		}
	}
	return warnings
}

// Warning returns the warning about the whitelist as a whole, or "": it holds every address of one
// IP version and none of the other.
func (w Whitelist) Warning() string {
	isIPv4 := func(p netip.Prefix) bool { return p.Addr().Is4() }
	isIPv6 := func(p netip.Prefix) bool { return p.Addr().Is6() }
	switch {
	case covers(w.prefixes, allIPv4) && !slices.ContainsFunc(w.prefixes, isIPv6):
		return "every IPv4 address is allowed, and no IPv6 address: add ::/0, or omit ip_whitelist, if the key may be used from anywhere"
	case covers(w.prefixes, allIPv6) && !slices.ContainsFunc(w.prefixes, isIPv4):
		return "every IPv6 address is allowed, and no IPv4 address: add 0.0.0.0/0, or omit ip_whitelist, if the key may be used from anywhere"
	}
	return ""
}

var (
	allIPv4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	allIPv6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// covers reports whether one of the prefixes holds all of p, or two of them a half each.
func covers(prefixes []netip.Prefix, p netip.Prefix) bool {
	if slices.Contains(prefixes, p) {
		return true
	}
	upper := netip.AddrFrom4([4]byte{0x80})
	if p.Addr().Is6() {
		upper = netip.AddrFrom16([16]byte{0x80})
	}
	return slices.Contains(prefixes, netip.PrefixFrom(p.Addr(), 1)) && slices.Contains(prefixes, netip.PrefixFrom(upper, 1))
}
