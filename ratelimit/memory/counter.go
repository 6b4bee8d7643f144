package memory

import (
	"time"

	"extauthz/ratelimit"
)

// A counter holds what was spent under one limit. A nil one holds nothing. Times are in
// microseconds since the limiter's start.
type counter struct {
	slots []slot // of what still counts, the oldest first
	spent int64  // their sum
}

// A slot is what was spent in a stretch of time that ends at end.
type slot struct{ end, cost int64 }

// until returns when what was spent in a slot no longer counts.
func (s slot) until(duration time.Duration) int64 { return s.end + duration.Microseconds() }

// at returns how much counts now, and removes what does not.
func (c *counter) at(now int64, duration time.Duration) int64 {
	if c == nil {
		return 0
	}
	gone := 0
	for gone < len(c.slots) && c.slots[gone].until(duration) <= now {
		c.spent -= c.slots[gone].cost
		gone++
	}
	if gone > 0 {
		c.slots = c.slots[:copy(c.slots, c.slots[gone:])]
	}
	return c.spent
}

// add spends what the charge costs now.
func (c *counter) add(now int64, charge *ratelimit.Charge) {
	width := ratelimit.SlotWidth(charge.Limit, charge.Duration).Microseconds()
	end := (now + width - 1) / width * width
	c.spent += charge.Cost
	if last := len(c.slots) - 1; last >= 0 && c.slots[last].end >= end { // it may be wider, or the clock went back
		c.slots[last].cost += charge.Cost
		return
	}
	if c.slots == nil {
		c.slots = make([]slot, 0, 1)
	}
	c.slots = append(c.slots, slot{end, charge.Cost})
}

// status returns the limit's state, after at has removed what no longer counts.
func (c *counter) status(charge ratelimit.Charge, now int64) ratelimit.Status {
	s := ratelimit.Status{Charge: charge, Remaining: charge.Limit}
	if !charge.Fits(0) {
		s.Wait = charge.Duration
	}
	if c == nil || len(c.slots) == 0 {
		return s
	}
	until := func(o slot) time.Duration {
		return time.Duration(o.until(charge.Duration)-now) * time.Microsecond
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

// paid returns the state for a charge that was spent, which has nothing to wait for, whether or not
// there is room for it again.
func (c *counter) paid(charge ratelimit.Charge, now int64) ratelimit.Status {
	c.at(now, charge.Duration)
	s := c.status(charge, now)
	s.Wait = 0
	return s
}
