// Package ratelimit defines what a rate limit guarantees, what a limiter must do, and how its
// result is reported to a caller. The limiters are in the directories below it.
//
// A limit is a sliding window: of what is spent in any stretch of time as long as its
// duration, never more than the limit is let through. Under a limit of at most [Slots], spending
// is counted exactly. Under a larger one it is counted in slots of a Slots-th of the duration, and
// what was spent in a slot counts until the end of that slot is a duration ago. So the
// approximation errs on the refusing side alone: what was spent may count for up to one Slots-th
// of the duration too long (1 s of 1m, 1 min of 1h).
package ratelimit

import (
	"context"
	"time"
)

// Slots is how many slots the duration of a limit is divided into, and so about how many numbers
// a counter holds at most. A limit that is no larger cannot be spent more often than that in a
// duration, and so needs no slots.
const Slots = 60

// SlotWidth returns the length of the slots in which spending is counted: a whole number of
// microseconds, the unit of the limiters' clocks. What is spent counts from the next multiple of
// it on, for the duration.
func SlotWidth(limit int64, duration time.Duration) time.Duration {
	if limit <= Slots {
		return time.Microsecond
	}
	return (duration/time.Microsecond + Slots - 1) / Slots * time.Microsecond
}

// RepeatWithin is for how long after a request was charged its repetition is not charged again.
// It is longer than a proxy retries the check of one request.
const RepeatWithin = 5 * time.Second

// A Subject is whose spending is counted, and for which request.
type Subject struct {
	Key   string // a key's id
	Owner string // the external id that the key's spending is shared under; may be empty

	// Request identifies the request; empty where it is not known. It must not be chosen by the
	// caller, who could otherwise have many requests charged as one.
	Request string
}

// A Charge is what one request costs under one limit. Its counter is identified by the Subject,
// the Name, the Duration, and whether it is Shared: a new Limit finds what was spent before, a new
// Duration starts at zero.
type Charge struct {
	Name     string
	Limit    int64
	Duration time.Duration // whole microseconds
	Shared   bool          // counted for the Subject's Owner, not for its Key
	Cost     int64         // 0 only looks: it is never refused
}

// A Limiter counts what is spent. It is safe for concurrent use.
type Limiter interface {
	// Take spends all the charges of one request, or none of them: none where one has no
	// room. The charges are of different counters, and are not kept. It returns a status for
	// each, in their order, or an error where it had no answer before ctx ended; the charges may
	// have been spent even so.
	//
	// Where the same charges were spent for the same Request less than [RepeatWithin] ago, they
	// are not spent again, and have room. A proxy that lost the answer asks once more.
	Take(ctx context.Context, s Subject, charges []Charge) (Result, error)

	// Look returns what Take would, and spends nothing.
	Look(ctx context.Context, s Subject, charges []Charge) (Result, error)
}

// A Status is the state of one limit after the charge.
type Status struct {
	Charge
	Remaining int64         // how much cost there is room for now; never negative
	Next      time.Duration // until some of what was spent no longer counts; 0: nothing is
	Reset     time.Duration // until none of it does; 0: nothing is
	Wait      time.Duration // until there is room for the Cost; 0: there was
}

// Fits reports whether there is room for the charge under a counter that holds spent.
func (c Charge) Fits(spent int64) bool { return c.Cost <= 0 || spent <= c.Limit-c.Cost }

// A Result is the state of all limits of one request. The zero value is that of a request under
// no limit.
type Result struct {
	Limits []Status
}

// Limited reports whether one of the limits had no room.
func (r Result) Limited() bool { return r.RetryAfter() > 0 }

// RetryAfter returns how long the caller must wait until every limit has room for the same
// request, if nothing else is spent; 0 where they have now. A cost that is more than its whole
// limit never fits: it waits for the limit's duration.
func (r Result) RetryAfter() time.Duration {
	var wait time.Duration
	for _, s := range r.Limits {
		wait = max(wait, s.Wait)
	}
	return wait
}

// Tightest returns the limit that matters most to the caller: of those without room the one with
// the longest wait, else the one with the least remaining, and of equals the one that takes longer
// to reset. It returns false where there is no limit.
func (r Result) Tightest() (Status, bool) {
	if len(r.Limits) == 0 {
		return Status{}, false
	}
	tightest := r.Limits[0]
	for _, s := range r.Limits[1:] {
		if s.tighter(tightest) {
			tightest = s
		}
	}
	return tightest, true
}

func (s Status) tighter(o Status) bool {
	if s.Wait != o.Wait {
		return s.Wait > o.Wait
	}
	if s.Remaining != o.Remaining {
		return s.Remaining < o.Remaining
	}
	return s.Reset > o.Reset
}
