package keystore

import (
	"context"
	"time"
)

const (
	retryFirst   = 100 * time.Millisecond
	retryLongest = time.Second
)

// KeepListening implements the reconnect loop of [Watcher.Watch] for a store that reports changes on a
// channel that can be lost, such as a connection. It calls listen, and again at most a second after it
// returned, until ctx ends. It returns ctx's error.
//
// listen connects, calls up as soon as no later change can be missed, and returns the reason when the
// channel is lost. report, if non-nil, is called with (true, nil) when the channel comes up, and with
// (false, reason) when it goes down or cannot be opened; not again before it has been up.
func KeepListening(ctx context.Context, listen func(ctx context.Context, up func()) error, report func(up bool, reason error)) error {
	if report == nil {
		report = func(bool, error) {}
	}
	reported := false // the channel is reported as down
	for wait := retryFirst; ; wait = min(2*wait, retryLongest) {
		wasUp := false
		err := listen(ctx, func() {
			wasUp, reported = true, false
			report(true, nil)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if wasUp {
			wait = retryFirst
		}
		if !reported {
			reported = true
			report(false, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
