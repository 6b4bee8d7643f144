package redis

import (
	"errors"
	"sync/atomic"
	"time"
)

const (
	hungAfter  = 3                      // calls in a row that were not answered in time
	probeEvery = 250 * time.Millisecond // how often a call is made while Redis hangs
)

var errHung = errors.New("it hangs: it answered none of the last calls in time, and only one call is made every 250 ms")

// A breaker lets most calls fail at once while Redis hangs, so that they do not wait for their
// timeout. It is safe for concurrent use. The zero value allows all calls.
type breaker struct {
	late  atomic.Int64 // calls that were not answered in time since the last one that was
	probe atomic.Int64 // when the next call is allowed, in Unix nanoseconds
}

// allows reports whether a call may be made now.
func (b *breaker) allows(now time.Time) bool {
	if b.late.Load() < hungAfter {
		return true
	}
	next := b.probe.Load()
	return now.UnixNano() >= next && b.probe.CompareAndSwap(next, now.Add(probeEvery).UnixNano())
}

// answered records that a call was answered.
func (b *breaker) answered() {
	if b.late.Load() != 0 {
		b.late.Store(0)
	}
}

// missed records that a call was not answered in time.
func (b *breaker) missed(now time.Time) {
	if b.late.Add(1) == hungAfter {
		b.probe.Store(now.Add(probeEvery).UnixNano())
	}
}
