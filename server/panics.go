package server

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// A panicLog counts checks that were refused because recording them panicked, and logs at most one of
// them each second. It is safe for concurrent use.
type panicLog struct {
	log     *slog.Logger
	metrics *metrics
	now     func() time.Time
	second  atomic.Int64 // of the last line
}

func (l *panicLog) observePanicked(err error) {
	l.metrics.panics.Inc()
	now := l.now().Unix()
	if last := l.second.Load(); last != now && l.second.CompareAndSwap(last, now) {
		l.log.Error("recording a check panicked, so the request was refused as UNAVAILABLE", "error", clip(oneLine(err)))
	}
}
