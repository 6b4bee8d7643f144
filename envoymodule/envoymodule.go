// Package envoymodule checks requests inside Envoy, for a dynamic module: it reads what Envoy's filter has
// of a request into [check.Attributes], and says what the filter is to do as a [Reply]. It knows neither C
// nor Envoy's ABI, which are in cmd/libextauthz.
package envoymodule

import (
	"context"
	"errors"
	"fmt"
	"time"

	"extauthz/check"
)

// A Backend holds what checks the requests of one configuration. It is safe for concurrent use.
type Backend interface {
	// Checker returns what checks a request that begins now.
	Checker() *check.Checker

	// Patience returns how long a check may take that has to wait.
	Patience() time.Duration

	// ReportPanic is called with the reason when a request was refused because of a panic.
	ReportPanic(err error)

	// Close ends it, once no new request is checked.
	Close()
}

// A Filter is one configuration of Envoy's filter. Get one from [Filters.Open]. It is safe for
// concurrent use.
type Filter struct {
	backend Backend
	waiting chan struct{} // a slot for each check that waits
	key     string        // in Filters
	users   int           // guarded by the mutex of Filters
}

// MaxWaiting is how many checks of a filter may wait for the key store or the rate limiter at once. Others
// that would have to are refused as UNAVAILABLE.
const MaxWaiting = 1024

func newFilter(key string, b Backend) *Filter {
	return &Filter{backend: b, key: key, waiting: make(chan struct{}, MaxWaiting)}
}

// A Stream is one request of Envoy's filter, whose answer may have to wait.
type Stream interface {
	// Suspend prepares the stream to wait, and returns what answers it later, or nil if it cannot wait.
	Suspend() Suspended
}

// A Suspended stream waits for an answer.
type Suspended interface {
	// Resume gives the stream its answer, which it does not keep. It is called once, on any goroutine,
	// and does nothing if the stream has ended.
	Resume(r *Reply)
}

// Check decides on the request of c, and reports whether c.Reply holds the answer. If it returns false, the
// stream waits, and its answer goes to what its Suspend returned. Check never blocks and never panics.
func (f *Filter) Check(c *Call, s Stream) (answered bool) {
	defer func() {
		if p := recover(); p != nil {
			f.panicked(c, p)
			answered = true
		}
	}()
	checker := f.backend.Checker()
	begun, done := checker.TryCheck(context.Background(), &c.Attributes, &c.outcome)
	if done {
		c.answer()
		return true
	}
	return !f.wait(begun, checker, c, s)
}

// wait has the check that began continued in the background, and reports whether the stream waits for that.
// Otherwise c.Reply holds a refusal.
func (f *Filter) wait(begun context.Context, checker *check.Checker, c *Call, s Stream) bool {
	select {
	case f.waiting <- struct{}{}:
	default:
		checker.Continue(canceled{begun, errTooMany}, &c.Attributes, &c.outcome) //nolint:contextcheck // it has the values of begun
		c.answer()
		return false
	}
	own := c.clone() // the memory of c is Envoy's
	later := s.Suspend()
	if later == nil {
		<-f.waiting
		own.Release()
		c.refuse()
		return false
	}
	go func() {
		defer f.Recover() // from a panic in Resume
		defer func() { <-f.waiting }()
		defer own.Release()
		f.checkLater(begun, checker, own)
		later.Resume(&own.Reply)
	}()
	return true
}

// checkLater checks the request with a deadline.
func (f *Filter) checkLater(begun context.Context, checker *check.Checker, c *Call) {
	defer func() {
		if p := recover(); p != nil {
			f.panicked(c, p)
		}
	}()
	ctx, cancel := context.WithTimeout(begun, f.backend.Patience())
	defer cancel()
	checker.Continue(ctx, &c.Attributes, &c.outcome)
	c.answer()
}

// panicked refuses the request of a check that panicked outside of the checker.
func (f *Filter) panicked(c *Call, value any) {
	c.refuse()
	f.reportPanic(value)
}

// Recover recovers from a panic in what surrounds Check, if it is deferred, and reports it. A request that has no reply
// then must be refused.
func (f *Filter) Recover() {
	if p := recover(); p != nil {
		f.reportPanic(p)
	}
}

func (f *Filter) reportPanic(value any) {
	defer func() { _ = recover() }()
	f.backend.ReportPanic(fmt.Errorf("a panic in the module: %T", value)) // the value may hold a secret
}

var errTooMany = errors.New("too many checks wait for the key store or the rate limiter")

// canceled is a context that has ended because of err.
type canceled struct {
	context.Context //nolint:containedctx // it is one
	err             error
}

func (c canceled) Err() error { return c.err }

func (c canceled) Done() <-chan struct{} { return closedChannel }

var closedChannel = func() chan struct{} { c := make(chan struct{}); close(c); return c }()
