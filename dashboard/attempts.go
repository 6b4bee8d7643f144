package dashboard

import (
	"net/netip"
	"sync"
	"time"
)

const (
	maxAttempts  = 10     // to log in, in a minute, from one address
	maxAddresses = 10_000 // that are counted separately
)

// attempts limits how often an address tries to log in, so that guessing is slow and does not lock others
// out. The zero value is ready for use. It is safe for concurrent use.
type attempts struct {
	mu     sync.Mutex
	minute int64
	counts map[netip.Prefix]int
}

// take reports whether the peer, host:port, may try once more in this minute.
func (a *attempts) take(peer string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if minute := now.Unix() / 60; minute != a.minute || a.counts == nil {
		a.minute, a.counts = minute, make(map[netip.Prefix]int)
	}
	network := networkOf(peer)
	if _, ok := a.counts[network]; !ok && len(a.counts) >= maxAddresses {
		network = netip.Prefix{} // all others together
	}
	a.counts[network]++
	return a.counts[network] <= maxAttempts
}

// forget resets the count after the peer has logged in.
func (a *attempts) forget(peer string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.counts, networkOf(peer))
}

// networkOf returns the peer's IPv4 address or IPv6 /64; the zero Prefix if it has none.
func networkOf(peer string) netip.Prefix {
	ap, err := netip.ParseAddrPort(peer)
	if err != nil {
		return netip.Prefix{}
	}
	addr, bits := ap.Addr().Unmap().WithZone(""), 32
	if addr.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(addr, bits).Masked()
}
