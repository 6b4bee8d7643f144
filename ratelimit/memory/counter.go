package memory

import (
	"time"

	"extauthz/ratelimit"
)

// A counter is what was spent under one limit. Nil is one on which nothing was. Times are in
// microseconds since the limiter's start.
type counter struct {
	slots []slot // of what still counts, the oldest first
	spent int64  // their sum
}

// A slot is what was spent from number times the slots' width on, for that width.
type slot struct{ number, cost int64 }

// ends returns when what was spent in a slot no longer counts: a duration after its end.
func (s slot) ends(duration time.Duration) int64 {
	return (s.number+1)*ratelimit.SlotWidth(duration).Microseconds() + duration.Microseconds()
}

// at returns how much counts now, and forgets what does not.
func (c *counter) at(now int64, duration time.Duration) int64 {
	if c == nil {
		return 0
	}
	gone := 0
	for gone < len(c.slots) && c.slots[gone].ends(duration) <= now {
		c.spent -= c.slots[gone].cost
		gone++
	}
	if gone > 0 {
		c.slots = c.slots[:copy(c.slots, c.slots[gone:])]
	}
	return c.spent
}

// add spends cost now.
func (c *counter) add(now int64, duration time.Duration, cost int64) {
	number := now / ratelimit.SlotWidth(duration).Microseconds()
	c.spent += cost
	if last := len(c.slots) - 1; last >= 0 && c.slots[last].number >= number { // a clock may go back
		c.slots[last].cost += cost
		return
	}
	if c.slots == nil {
		c.slots = make([]slot, 0, 1)
	}
	c.slots = append(c.slots, slot{number, cost})
}

// status tells what counts now, after at has forgotten the rest.
func (c *counter) status(charge ratelimit.Charge, now int64) ratelimit.Status {
	s := ratelimit.Status{Charge: charge, Remaining: charge.Limit}
	if !charge.Fits(0) {
		s.Wait = charge.Duration
	}
	if c == nil || len(c.slots) == 0 {
		return s
	}
	until := func(o slot) time.Duration {
		return time.Duration(o.ends(charge.Duration)-now) * time.Microsecond
	}
	s.Remaining = max(charge.Limit-c.spent, 0)
	s.Next, s.Reset = until(c.slots[0]), until(c.slots[len(c.slots)-1])
	if s.Wait == 0 {
		for i, left := 0, c.spent; !charge.Fits(left); i++ {
			left -= c.slots[i].cost
			s.Wait = until(c.slots[i])
		}
	}
	return s
}
