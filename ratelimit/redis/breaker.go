package redis

import (
	"errors"
	"sync/atomic"
	"time"
)

const (
	hungAfter  = 3                      // calls in a row that were not answered in time
	probeEvery = 250 * time.Millisecond // one call asks a Redis that hangs
)

var errHung = errors.New("it hangs: it answered none of the last calls in time, and one call each 250 ms asks it again")

// A breaker lets most calls fail at once while Redis hangs, so that not each of them waits for its
// timeout. It is safe for concurrent use. The zero value lets all calls through.
type breaker struct {
	late  atomic.Int64 // calls that were not answered in time since the last that was
	probe atomic.Int64 // when the next call may ask, in Unix nanoseconds
}

// allows reports whether a call may be made now.
func (b *breaker) allows(now time.Time) bool {
	if b.late.Load() < hungAfter {
		return true
	}
	next := b.probe.Load()
	return now.UnixNano() >= next && b.probe.CompareAndSwap(next, now.Add(probeEvery).UnixNano())
}

// answered notes that a call was answered.
func (b *breaker) answered() {
	if b.late.Load() != 0 {
		b.late.Store(0)
	}
}

// missed notes that a call was not answered in time.
func (b *breaker) missed(now time.Time) {
	if b.late.Add(1) == hungAfter {
		b.probe.Store(now.Add(probeEvery).UnixNano())
	}
}
