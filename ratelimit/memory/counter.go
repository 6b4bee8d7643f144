package memory

import (
	"time"

	"extauthz/ratelimit"
)

// A counter holds the charges under one limit. A nil counter is empty. Times are in microseconds
// since the limiter's start.
type counter struct {
	slots []slot // those that still count, the oldest first
	spent int64  // their sum
}

// A slot is the sum of the charges in a period that ends at end.
type slot struct{ end, cost int64 }

// until returns the time from which a slot no longer counts.
func (s slot) until(duration time.Duration) int64 { return s.end + duration.Microseconds() }

// at returns how much counts now, and removes slots that do not.
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

// add adds the cost of a charge now.
func (c *counter) add(now int64, charge *ratelimit.Charge) {
	width := ratelimit.SlotWidth(charge.Limit, charge.Duration).Microseconds()
	end := (now + width - 1) / width * width
	c.spent += charge.Cost
	if last := len(c.slots) - 1; last >= 0 && c.slots[last].end >= end { // later if the slot is wider, or the clock went back
		c.slots[last].cost += charge.Cost
		return
	}
	if c.slots == nil {
		c.slots = make([]slot, 0, 1)
	}
	c.slots = append(c.slots, slot{end, charge.Cost})
}

// status returns the limit's state, after at has removed old slots.
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

// paid returns the state for a charge that was already spent, which therefore fits even if there is
// no room for another one.
func (c *counter) paid(charge ratelimit.Charge, now int64) ratelimit.Status {
	c.at(now, charge.Duration)
	s := c.status(charge, now)
	s.Wait = 0
	return s
}
