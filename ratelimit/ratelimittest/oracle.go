package ratelimittest

import (
	"math/rand/v2"
	"sort"
	"time"

	"extauthz/ratelimit"
)

// paced spends exactly as fast as each limit allows: nothing is refused under a limit that is
// counted exactly, and about one request in 61 under a larger one.
func (b *bench) paced() {
	for limit, percent := range map[int64]int64{1: 100, 5: 100, ratelimit.Slots: 100, ratelimit.Slots + 1: 97, 1000: 97} {
		const every = 200 * time.Millisecond
		c := charge("paced", limit, time.Duration(limit)*every, 1)
		allowed, all := int64(0), 250+3*limit
		for range all {
			if r := b.take(alice, c); !r.Limited() {
				allowed++
			}
			b.clock.Advance(every)
		}
		if allowed*100 < all*percent {
			b.Errorf("%d of %d were allowed under a limit of %d, want %d %%", allowed, all, limit, percent)
		}
	}
}

// oracle holds a limiter against a log of all that was ever spent. A request may be refused
// only if it would not fit into a window that is longer by what a slot rounds up.
func (b *bench) oracle() {
	b.hold([]int64{5, 20, 100, 1000}, func(i int, d time.Duration) time.Duration {
		return ratelimit.SlotWidth([]int64{5, 20, 100, 1000}[i], d) - time.Microsecond
	})
}

// changingOracle does so while limits change, so that what was spent in slots of one width counts
// under a limit of another.
func (b *bench) changingOracle() {
	limits := []int64{5, 20, 50, 70}
	changes := 0
	b.hold(limits, func(i int, d time.Duration) time.Duration {
		if changes++; changes%50 == 0 {
			limits[i] = 120 - limits[i]
		}
		return ratelimit.SlotWidth(ratelimit.Slots+1, d)
	})
}

// hold takes at random under the limits. slack returns how much longer than the limit's duration
// what is spent may count.
func (b *bench) hold(limits []int64, slack func(i int, d time.Duration) time.Duration) {
	random := rand.New(rand.NewPCG(7, 11)) //nolint:gosec // the same charges each time
	type spent struct {
		at time.Time
		up int64 // the costs up to this one, with it
	}
	durations := []time.Duration{time.Second, 7 * time.Second, time.Minute, time.Hour}
	logs := make([][]spent, len(durations))
	total := func(log []spent) int64 {
		if len(log) == 0 {
			return 0
		}
		return log[len(log)-1].up
	}
	within := func(log []spent, d time.Duration) int64 { // a log is in the order of time
		first := sort.Search(len(log), func(i int) bool { return b.clock.Now().Sub(log[i].at) < d })
		return total(log) - total(log[:first])
	}
	for range 3000 {
		b.clock.Advance(time.Duration(random.ExpFloat64() * float64(durations[random.IntN(3)]) / 8))
		charges := make([]ratelimit.Charge, len(durations))
		longer := make([]time.Duration, len(durations))
		fits, tight := true, false
		for i, d := range durations {
			longer[i] = d + slack(i, d)
			charges[i] = charge("l"+d.String(), limits[i], d, random.Int64N(4))
			c := charges[i]
			fits = fits && (c.Cost == 0 || within(logs[i], d)+c.Cost <= c.Limit)
			tight = tight || c.Cost > 0 && within(logs[i], longer[i])+c.Cost > c.Limit
		}
		r := b.take(alice, charges...)
		if !r.Limited() && !fits {
			b.Fatalf("allowed past a limit: %+v", r)
		}
		if r.Limited() && !tight {
			b.Fatalf("refused with room: %+v", r)
		}
		for i, c := range charges {
			if !r.Limited() {
				logs[i] = append(logs[i], spent{b.clock.Now(), total(logs[i]) + c.Cost})
			}
			exact, most := within(logs[i], c.Duration), within(logs[i], longer[i])
			if got := r.Limits[i].Remaining; got > max(c.Limit-exact, 0) || got < max(c.Limit-most, 0) {
				b.Fatalf("%d of %s remain; the log says %d to %d", got, c.Name, c.Limit-most, c.Limit-exact)
			}
		}
	}
}
