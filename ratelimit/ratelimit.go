// Package ratelimit defines rate limits, the contract of limiters, and how their results are
// reported to callers. The limiters are in the packages below it.
//
// A limit is a sliding window: in any period of its duration, the cost of the allowed requests never
// exceeds the limit. A limit of at most [Slots] is counted exactly. A larger one is counted in slots
// of a Slots-th of the duration, and a charge counts until the end of its slot is one duration ago.
// So the approximation can only refuse too much: a charge may count for up to one Slots-th of the
// duration too long (1 s of 1m, 1 min of 1h).
package ratelimit

import (
	"context"
	"time"
)

// Slots is the number of slots of a limit's duration, and about the largest number of values in a
// counter. A limit that is not larger allows at most that many charges in a duration, so it needs no
// slots.
const Slots = 60

// DefaultTimeout is the default time limit of one call of a remote limiter.
const DefaultTimeout = 50 * time.Millisecond

// SlotWidth returns the length of the slots in which charges are counted: a whole number of
// microseconds, the unit of the limiters' clocks. A charge counts for the duration after the next
// multiple of it.
func SlotWidth(limit int64, duration time.Duration) time.Duration {
	if limit <= Slots {
		return time.Microsecond
	}
	return (duration/time.Microsecond + Slots - 1) / Slots * time.Microsecond
}

// RepeatWithin is the time after a charge in which a repetition of the same request is not charged
// again. It is longer than a proxy retries the check of a request.
const RepeatWithin = 5 * time.Second

// A Subject identifies the key and the request to charge.
type Subject struct {
	Key   string // a key's id
	Owner string // the external id under which shared limits are counted; may be empty

	// Request identifies the request; empty if unknown. The caller must not be able to choose it,
	// since many requests could otherwise be charged as one.
	Request string
}

// A Charge is the cost of one request under one limit. Its counter is identified by the Subject,
// the Name, the Duration, and whether it is Shared: a change of the Limit keeps the counter, a
// change of the Duration starts a new one.
type Charge struct {
	Name     string
	Limit    int64
	Duration time.Duration // whole microseconds
	Shared   bool          // counted for the Subject's Owner, not for its Key
	Cost     int64         // 0 is never refused, and only reports the state
}

// A Limiter counts charges. It is safe for concurrent use.
type Limiter interface {
	// Take spends all charges of one request, or none if one of them does not fit. The charges
	// must be for different counters; Take does not keep them. It returns a status for each, in
	// their order, or an error if there was no answer before ctx ended; the charges may have been
	// spent in that case.
	//
	// If the same charges were spent for the same Request less than [RepeatWithin] ago, they fit
	// and are not spent again, since a proxy that lost the answer retries.
	Take(ctx context.Context, s Subject, charges []Charge) (Result, error)

	// Look returns what Take would return, without spending anything.
	Look(ctx context.Context, s Subject, charges []Charge) (Result, error)
}

// A Status is the state of one limit after the charge.
type Status struct {
	Charge
	Remaining int64         // the cost that still fits now; never negative
	Next      time.Duration // until the oldest charge no longer counts; 0: there are none
	Reset     time.Duration // until no charge counts; 0: there are none
	Wait      time.Duration // until the Cost fits; 0: it did
}

// Fits reports whether the charge fits into a counter with the sum spent.
func (c Charge) Fits(spent int64) bool { return c.Cost <= 0 || spent <= c.Limit-c.Cost }

// A Result is the state of all limits of one request. The zero value is that of a request without
// limits.
type Result struct {
	Limits []Status
}

// Limited reports whether a charge did not fit into its limit.
func (r Result) Limited() bool { return r.RetryAfter() > 0 }

// RetryAfter returns how long the caller must wait until the same request fits into every limit, if
// nothing else is spent; 0 if it fits now. A cost that exceeds its limit never fits: the result is
// then at least the limit's duration.
func (r Result) RetryAfter() time.Duration {
	var wait time.Duration
	for _, s := range r.Limits {
		wait = max(wait, s.Wait)
	}
	return wait
}

// Tightest returns the limit that matters most to the caller: the one with the longest wait if the
// request was refused, otherwise the one with the least remaining, and of equal ones the one that
// takes longer to reset. It returns false if there are no limits.
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
