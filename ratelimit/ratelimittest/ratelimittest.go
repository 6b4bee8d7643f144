// Package ratelimittest tests that a limiter does what [ratelimit.Limiter] promises.
package ratelimittest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"extauthz/ratelimit"
)

// A Clock is a clock that moves only by Advance. It is safe for concurrent use. Make one with
// [NewClock].
type Clock struct{ micros atomic.Int64 }

// NewClock returns a clock at a time that is a multiple of no slot.
func NewClock() *Clock {
	c := new(Clock)
	c.micros.Store(time.Date(2027, 1, 31, 12, 34, 56, 789123000, time.UTC).UnixMicro())
	return c
}

// Now returns the clock's time.
func (c *Clock) Now() time.Time { return time.UnixMicro(c.micros.Load()) }

// Advance moves the clock forward.
func (c *Clock) Advance(d time.Duration) { c.micros.Add(d.Microseconds()) }

// Run tests the limiter. open returns one without counters, with the clock.
func Run(t *testing.T, open func(t *testing.T, now func() time.Time) ratelimit.Limiter) {
	for name, test := range map[string]func(*bench){
		"sliding window": (*bench).slidingWindow, "all or nothing": (*bench).allOrNothing, "cost 0 looks": (*bench).costZero,
		"look spends nothing": (*bench).look, "counters apart": (*bench).apart, "another limit": (*bench).change,
		"cost over the limit": (*bench).overLimit, "exact oracle": (*bench).oracle, "oracle of limits that change": (*bench).changingOracle,
		"evenly paced": (*bench).paced, "repeated requests": (*bench).repeated, "many at once": (*bench).concurrent,
	} {
		t.Run(name, func(t *testing.T) {
			clock := NewClock()
			test(&bench{t, clock, open(t, clock.Now)})
		})
	}
}

type bench struct {
	*testing.T
	clock   *Clock
	limiter ratelimit.Limiter
}

var alice = ratelimit.Subject{Key: "key_alice", Owner: "acme {inc}/1"}

func charge(name string, limit int64, duration time.Duration, cost int64) ratelimit.Charge {
	return ratelimit.Charge{Name: name, Limit: limit, Duration: duration, Cost: cost}
}

func (b *bench) take(s ratelimit.Subject, charges ...ratelimit.Charge) ratelimit.Result {
	b.Helper()
	r, err := b.limiter.Take(b.Context(), s, charges)
	if err != nil {
		b.Fatal(err)
	}
	if len(r.Limits) != len(charges) {
		b.Fatalf("%d statuses for %d charges", len(r.Limits), len(charges))
	}
	for i, c := range charges {
		if r.Limits[i].Charge != c {
			b.Fatalf("status %d is of %+v, want %+v", i, r.Limits[i].Charge, c)
		}
	}
	return r
}

func (b *bench) allow(s ratelimit.Subject, charges ...ratelimit.Charge) ratelimit.Result {
	b.Helper()
	r := b.take(s, charges...)
	if r.Limited() {
		b.Fatalf("refused: %+v", r)
	}
	return r
}

func (b *bench) refuse(s ratelimit.Subject, charges ...ratelimit.Charge) ratelimit.Result {
	b.Helper()
	r := b.take(s, charges...)
	if !r.Limited() {
		b.Fatalf("allowed: %+v", r)
	}
	return r
}

func (b *bench) remaining(r ratelimit.Result, want ...int64) {
	b.Helper()
	for i, w := range want {
		if got := r.Limits[i].Remaining; got != w {
			b.Fatalf("%d of %s remain, want %d", got, r.Limits[i].Name, w)
		}
	}
}

// slidingWindow spends a third of a limit three times: of one that is counted exactly, and of one
// that is counted in slots.
func (b *bench) slidingWindow() {
	for _, third := range []int64{1, 100} {
		b.slideBy(third)
	}
}

func (b *bench) slideBy(third int64) {
	c := charge("requests", 3*third, time.Minute, third)
	longest := time.Minute + ratelimit.SlotWidth(c.Limit, c.Duration) - time.Microsecond
	first := b.allow(alice, c)
	b.remaining(first, 2*third)
	if s := first.Limits[0]; s.Next != s.Reset || s.Reset < time.Minute || s.Reset > longest {
		b.Fatalf("%+v: want to be reset after a minute, and at most %s", s, longest)
	}
	b.clock.Advance(30 * time.Second)
	b.allow(alice, c)
	b.remaining(b.allow(alice, c), 0)

	r := b.refuse(alice, c)
	s := r.Limits[0]
	if s.Wait != s.Next || s.Next != first.Limits[0].Next-30*time.Second || s.Reset <= s.Next {
		b.Fatalf("%+v: want to wait for the first to be given back", s)
	}
	b.clock.Advance(s.Wait - time.Microsecond)
	b.refuse(alice, c)
	b.clock.Advance(time.Microsecond)
	b.remaining(b.allow(alice, c), 0)
	b.refuse(alice, c)
	if w := b.refuse(alice, charge("requests", 3*third, time.Minute, 2*third)).RetryAfter(); w <= 0 || w > 31*time.Second {
		b.Fatalf("wait of %s for two, want half a minute", w)
	}
	b.clock.Advance(2 * time.Minute)
	b.remaining(b.allow(alice, c), 2*third)
	b.clock.Advance(2 * time.Minute)
}

func (b *bench) allOrNothing() {
	wide, narrow := charge("requests", 10, time.Minute, 2), charge("exports", 1, time.Hour, 1)
	b.remaining(b.allow(alice, wide, narrow), 8, 0)
	for range 3 {
		r := b.refuse(alice, wide, narrow)
		b.remaining(r, 8, 0)
		if r.Limits[0].Wait != 0 || r.Limits[1].Wait != r.RetryAfter() {
			b.Fatalf("%+v: want to wait for exports alone", r)
		}
	}
	b.remaining(b.refuse(alice, narrow, wide), 0, 8)
	b.remaining(b.allow(alice, wide), 6)
}

func (b *bench) costZero() {
	b.remaining(b.allow(alice, charge("requests", 1, time.Minute, 0)), 1)
	b.allow(alice, charge("requests", 1, time.Minute, 1))
	b.remaining(b.allow(alice, charge("requests", 1, time.Minute, 0)), 0)
	b.allow(alice, charge("requests", 1, time.Minute, 0), charge("exports", 1, time.Minute, 1))
	b.allow(alice)
}

func (b *bench) look() {
	c := charge("requests", 1, time.Minute, 1)
	for range 3 {
		r, err := b.limiter.Look(b.Context(), alice, []ratelimit.Charge{c})
		if err != nil || r.Limited() || r.Limits[0].Remaining != 1 || r.Limits[0].Reset != 0 {
			b.Fatalf("%+v, %v; want room for one", r, err)
		}
	}
	b.allow(alice, c)
	if r, err := b.limiter.Look(b.Context(), alice, []ratelimit.Charge{c}); err != nil || !r.Limited() || r.Limits[0].Remaining != 0 {
		b.Fatalf("%+v, %v; want no room", r, err)
	}
}

func (b *bench) apart() {
	own := charge("requests", 1, time.Minute, 1)
	shared := own
	shared.Shared = true
	bob := ratelimit.Subject{Key: "key_bob", Owner: alice.Owner}
	b.allow(alice, own)
	b.allow(bob, own)
	b.allow(ratelimit.Subject{Key: alice.Key, Owner: "other"}, shared)
	b.allow(ratelimit.Subject{Key: alice.Owner}, own)
	b.allow(alice, charge("exports", 1, time.Minute, 1))
	b.allow(alice, shared)
	b.refuse(bob, shared)
	b.refuse(alice, own)
}

// repeated asks again about one request, as a proxy does that lost the answer.
func (b *bench) repeated() {
	c, other := charge("requests", 1, time.Minute, 1), charge("exports", 1, time.Minute, 1)
	first, second := alice, alice
	first.Request, second.Request = "15013395448945184", "98400144648466782"
	for range 3 {
		b.remaining(b.allow(first, c), 0)
		b.clock.Advance(ratelimit.RepeatWithin / 8)
	}
	b.refuse(second, c)
	b.refuse(alice, c)
	b.refuse(ratelimit.Subject{Key: alice.Key, Owner: alice.Owner, Request: first.Request}, charge("requests", 1, time.Minute, 2))
	b.allow(ratelimit.Subject{Key: "key_bob", Owner: alice.Owner, Request: first.Request}, c)

	// The same request may spend something else, such as for a second filter of the proxy.
	b.remaining(b.allow(first, other), 0)
	b.allow(first, other)
	b.refuse(second, other)

	// What was refused was not charged, so it is decided again.
	b.clock.Advance(2 * time.Minute)
	b.allow(second, c)
	b.clock.Advance(ratelimit.RepeatWithin + 2*time.Second)
	b.refuse(second, c)
	b.clock.Advance(time.Minute)
	b.allow(second, charge("requests", 1, time.Minute, 0))
	b.allow(first, c)
}

func (b *bench) change() {
	b.allow(alice, charge("requests", 5, time.Minute, 5))
	b.remaining(b.allow(alice, charge("requests", 9, time.Minute, 1)), 3)
	b.remaining(b.refuse(alice, charge("requests", 2, time.Minute, 1)), 0)
	b.remaining(b.allow(alice, charge("requests", 2, time.Hour, 1)), 1)
}

func (b *bench) overLimit() {
	c := charge("requests", 5, time.Minute, 6)
	for range 2 {
		r := b.refuse(alice, c)
		if b.remaining(r, 5); r.RetryAfter() != time.Minute {
			b.Fatalf("wait of %s, want the whole duration", r.RetryAfter())
		}
	}
	b.allow(alice, charge("requests", 5, time.Minute, 5))
	b.refuse(alice, c)
}

func (b *bench) concurrent() {
	const limit = 500
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				r, err := b.limiter.Take(b.Context(), alice, []ratelimit.Charge{charge("requests", limit, time.Hour, 1), charge("more", 2*limit, time.Hour, 2)})
				if err != nil {
					b.Error(err)
				} else if !r.Limited() {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := allowed.Load(); got != limit {
		b.Fatalf("%d were allowed, want %d", got, limit)
	}
}
