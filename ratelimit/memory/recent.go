package memory

import (
	"hash/maphash"
	"sync/atomic"

	"extauthz/ratelimit"
)

// recent records which requests were charged recently: about the last 65,536, in half a megabyte.
// An entry is a hash of a request and its charges, whose lowest bits are its index and are replaced
// by the time. A newer entry may overwrite it; the request is then charged again.
type recent [1 << ticksBits]atomic.Uint64

const (
	ticksBits = 16
	tick      = 18 // the binary logarithm of a tick in microseconds, a quarter of a second
)

func ticks(now int64) uint16 { return uint16(now >> tick) } //nolint:gosec // it wraps after 4 hours

func (r *recent) add(hash uint64, now int64) {
	r[uint16(hash)].Store(hash>>ticksBits<<ticksBits | uint64(ticks(now))) //nolint:gosec // its lowest bits
}

func (r *recent) has(hash uint64, now int64) bool {
	e := r[uint16(hash)].Load()   //nolint:gosec // its lowest bits
	age := ticks(now) - uint16(e) //nolint:gosec // modulo 2^16
	return e>>ticksBits == hash>>ticksBits && age <= ticks(ratelimit.RepeatWithin.Microseconds())
}

// hash returns the hash of a request with its charges, or 0 if the request is unknown.
func (l *Limiter) hash(s *ratelimit.Subject, charges []ratelimit.Charge) uint64 {
	if s.Request == "" {
		return 0
	}
	h := maphash.String(l.seed, s.Request) ^ maphash.String(l.seed, s.Key)
	for i := range charges {
		c := &charges[i]
		h = (h ^ maphash.String(l.seed, c.Name)) * 0x9e3779b97f4a7c15
		h ^= uint64(c.Cost) ^ uint64(c.Duration) //nolint:gosec // bits
	}
	return h
}
