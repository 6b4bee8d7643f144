// Package memory is a rate limiter with counters in the memory of one process.
package memory

import (
	"context"
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"extauthz/ratelimit"
)

const (
	shards     = 256
	sweepEvery = 10 * time.Second // each shard, while there are requests
)

// A Limiter counts in memory. A counter that was used once takes about 150 bytes, and one in steady
// use at most 1.3 kB; TestMemory measures the former. An empty counter is dropped within 10 s, as
// long as there are any requests.
type Limiter struct {
	now    func() time.Time
	start  time.Time
	seed   maphash.Seed
	shards [shards]shard
	recent recent

	nextSweep atomic.Int64 // in microseconds since start
	swept     atomic.Uint32
}

var _ ratelimit.Limiter = (*Limiter)(nil)

// New returns a Limiter without counters. now is its clock: [time.Now] in production, whose
// monotonic time is not affected when the machine's time is set.
func New(now func() time.Time) *Limiter {
	l := &Limiter{now: now, start: now(), seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].counters = make(map[name]*counter)
	}
	return l
}

// A shard holds all counters of some subjects, so that a request needs one lock: a subject with an
// owner is in the shard of its owner, with its own counters and the shared ones.
type shard struct {
	mu       sync.Mutex
	counters map[name]*counter
	peak     int // the largest number of counters since the map was created
}

// A name identifies a counter.
type name struct {
	key, owner string // one is empty for counters of a key without an owner, and for shared ones
	limit      string
	duration   time.Duration
}

func nameOf(s ratelimit.Subject, c *ratelimit.Charge) name {
	if c.Shared {
		return name{"", s.Owner, c.Name, c.Duration}
	}
	return name{s.Key, s.Owner, c.Name, c.Duration}
}

// Take spends the charges, or nothing. It never fails.
func (l *Limiter) Take(_ context.Context, s ratelimit.Subject, charges []ratelimit.Charge) (ratelimit.Result, error) {
	return l.take(s, charges, true), nil
}

// Look returns what Take would, and spends nothing. It never fails.
func (l *Limiter) Look(_ context.Context, s ratelimit.Subject, charges []ratelimit.Charge) (ratelimit.Result, error) {
	return l.take(s, charges, false), nil
}

func (l *Limiter) take(s ratelimit.Subject, charges []ratelimit.Charge, spend bool) ratelimit.Result {
	now := l.now().Sub(l.start).Microseconds()
	if next := l.nextSweep.Load(); now >= next && l.nextSweep.CompareAndSwap(next, now+sweepEvery.Microseconds()/shards) {
		l.shards[l.swept.Add(1)%shards].sweep(now)
	}
	tag := s.Owner
	if tag == "" {
		tag = s.Key
	}
	shard := &l.shards[maphash.String(l.seed, tag)%shards]
	limits := make([]ratelimit.Status, len(charges))
	request := l.hash(&s, charges)

	shard.mu.Lock()
	defer shard.mu.Unlock()
	if request != 0 && l.recent.has(request, now) {
		for i := range charges {
			c := &charges[i]
			limits[i] = shard.counters[nameOf(s, c)].paid(*c, now)
		}
		return ratelimit.Result{Limits: limits}
	}
	room := true
	for i := range charges {
		c := &charges[i]
		counter := shard.counters[nameOf(s, c)]
		room = c.Fits(counter.at(now, c.Duration)) && room
		limits[i] = counter.status(*c, now)
	}
	if !spend || !room {
		return ratelimit.Result{Limits: limits}
	}
	for i := range charges {
		c := &charges[i]
		if c.Cost <= 0 {
			continue
		}
		counter := shard.counter(nameOf(s, c))
		counter.add(now, c)
		limits[i] = counter.paid(*c, now)
		if request != 0 {
			l.recent.add(request, now)
		}
	}
	return ratelimit.Result{Limits: limits}
}

func (s *shard) counter(n name) *counter {
	c := s.counters[n]
	if c == nil {
		c = new(counter)
		s.counters[n] = c
		s.peak = max(s.peak, len(s.counters))
	}
	return c
}

// sweep drops empty counters. A map never releases memory, so a map that has become much too large
// is replaced.
func (s *shard) sweep(now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, c := range s.counters {
		if c.at(now, n.duration) == 0 {
			delete(s.counters, n)
		}
	}
	if s.peak > 64 && len(s.counters) < s.peak/4 {
		small := make(map[name]*counter, len(s.counters))
		maps.Copy(small, s.counters)
		s.counters, s.peak = small, len(small)
	}
}
