package keystore

import (
	"context"
	"time"
)

const (
	retryFirst   = 100 * time.Millisecond
	retryLongest = time.Second
)

// KeepListening implements the loop of [Watcher.Watch] for stores whose channel of changes is a
// connection that can be lost. It calls listen, and calls it again whenever it returns, at most a
// second later, until ctx ends; it returns ctx's error.
//
// listen connects, calls up once no later change can be missed, and returns when the channel is
// lost, with the reason. report, if non-nil, is called with (true, nil) when the channel comes up
// and with (false, reason) when it goes down: once for each turn, and once for a channel that has
// never been up.
func KeepListening(ctx context.Context, listen func(ctx context.Context, up func()) error, report func(up bool, reason error)) error {
	if report == nil {
		report = func(bool, error) {}
	}
	reported := false // that the channel is down
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
