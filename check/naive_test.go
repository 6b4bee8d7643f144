package check

import (
	"net/netip"
	"strings"
)

// This file implements naively what the package does fast.

func naiveEntries(list string) []string {
	entries := strings.Split(list, ",")
	for i, e := range entries {
		for e != "" && (e[0] == ' ' || e[0] == '\t') {
			e = e[1:]
		}
		for e != "" && (e[len(e)-1] == ' ' || e[len(e)-1] == '\t') {
			e = e[:len(e)-1]
		}
		entries[i] = e
	}
	return entries
}

func naiveAddr(s string) netip.Addr {
	addr, err := netip.ParseAddr(s)
	if err != nil || strings.Contains(s, "%") {
		return netip.Addr{}
	}
	if b := addr.As16(); addr.Is4In6() {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return addr
}

// naiveTrusted is 10.0.0.0/8 and 2001:db8:1::/48, bit by bit.
func naiveTrusted(a netip.Addr) bool {
	if a.Is4() {
		return a.As4()[0] == 10
	}
	b := a.As16()
	return [6]byte(b[:6]) == [6]byte{0x20, 0x01, 0x0d, 0xb8, 0x00, 0x01}
}

func naiveProxies(peer, list string) netip.Addr {
	chain := append(naiveEntries(list), peer)
	for len(chain) > 0 {
		addr := naiveAddr(chain[len(chain)-1])
		if !addr.IsValid() || !naiveTrusted(addr) {
			return addr
		}
		chain = chain[:len(chain)-1]
	}
	return netip.Addr{}
}

func naiveHops(peer, list string, n int, appended bool) netip.Addr {
	entries := naiveEntries(list)
	if appended {
		peer, last := naiveAddr(peer), naiveAddr(entries[len(entries)-1])
		if !peer.IsValid() || peer != last && !netip.MustParsePrefix("127.0.0.0/8").Contains(peer) && peer != netip.IPv6Loopback() {
			return netip.Addr{} // Envoy does not append this
		}
		entries = entries[:len(entries)-1]
	}
	if len(entries) < n {
		return netip.Addr{}
	}
	return naiveAddr(entries[len(entries)-n])
}
