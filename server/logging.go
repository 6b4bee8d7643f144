package server

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/grpclog"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/config"
)

// newLogger returns a logger that writes one line an event to w. Both formats quote what
// could be taken for another line or another attribute.
func newLogger(c config.Log, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// captureLogs sends what libraries log to the same place: they would write to standard error, and
// wait for it.
func captureLogs(log *slog.Logger) {
	slog.SetDefault(log)
	errors := slog.NewLogLogger(log.Handler(), slog.LevelError).Writer()
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, errors))
}

const (
	linesPerSecond = 10               // of each code, before the rest of the second is only counted
	summaryEvery   = 10 * time.Second // how often what was only counted is told
)

// A decisionLog writes one line a decision: allowed ones at debug, refusals at info, and those
// that could not be made at error. At the level debug every line is written; above it no more
// than [linesPerSecond] of each code, so that a flood of requests cannot fill a disk. It is
// safe for concurrent use.
type decisionLog struct {
	log     *slog.Logger
	now     func() time.Time
	samples []sample // by code
}

// A sample is what was written in one second.
type sample struct {
	second     atomic.Int64
	lines      atomic.Int64
	suppressed atomic.Int64 // since the last summary
}

func newDecisionLog(log *slog.Logger, now func() time.Time) *decisionLog {
	return &decisionLog{log: log, now: now, samples: make([]sample, len(authz.Codes()))}
}

// observe writes what is to be written of one check. It keeps nothing of it.
func (d *decisionLog) observe(ctx context.Context, o *check.Observation) {
	level := levelOf(o)
	if !d.log.Enabled(ctx, level) {
		return
	}
	if !d.log.Enabled(ctx, slog.LevelDebug) && !d.samples[o.Decision.Code].take(d.now().Unix()) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs, slog.String("code", o.Decision.Code.String()))
	if k := o.Decision.Key; k != nil {
		attrs = append(attrs, slog.String("key_id", k.ID))
		if k.Name != "" {
			attrs = append(attrs, slog.String("key_name", k.Name))
		}
	}
	if o.ClientAddr.IsValid() {
		attrs = append(attrs, slog.String("client_address", o.ClientAddr.String()))
	}
	attrs = append(attrs, slog.String("client_address_from", o.AddrFrom))
	if o.AddrErr != nil {
		attrs = append(attrs, slog.String("client_address_error", clip(o.AddrErr.Error())))
	}
	attrs = append(attrs, slog.String("method", o.Method), slog.String("host", o.Host), slog.String("path", o.Path))
	if o.RequestID != "" {
		attrs = append(attrs, slog.String("request_id", o.RequestID))
	}
	if o.RouteErr != nil {
		attrs = append(attrs, slog.String("route_error", clip(o.RouteErr.Error())))
	}
	if o.LetThrough {
		attrs = append(attrs, slog.Bool("dry_run", true))
	}
	if o.Err != nil {
		attrs = append(attrs, slog.String("error", clip(o.Err.Error())))
	}
	d.log.LogAttrs(ctx, level, "decision", attrs...)
}

func levelOf(o *check.Observation) slog.Level {
	switch {
	case o.Err != nil || o.Decision.Code == authz.Unavailable:
		return slog.LevelError
	case o.Decision.Code.Allowed():
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// maxErrorText bounds what one error may write, in bytes; a panic's holds where it happened.
const maxErrorText = 2048

func clip(s string) string {
	if len(s) > maxErrorText {
		return s[:maxErrorText] + "…"
	}
	return s
}

// oneLine returns the error's text without its line breaks.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// take reports whether one more line may be written in this second, and counts it if not. Two
// requests that begin a second together may let a line too many through.
func (s *sample) take(second int64) bool {
	if last := s.second.Load(); last != second && s.second.CompareAndSwap(last, second) {
		s.lines.Store(0)
	}
	if s.lines.Add(1) <= linesPerSecond {
		return true
	}
	s.suppressed.Add(1)
	return false
}

// summarize logs now and then what was only counted, until ctx ends.
func (d *decisionLog) summarize(ctx context.Context) {
	tick := time.NewTicker(summaryEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.flush()
		}
	}
}

// reportLostLines logs now and then how many log lines were lost, until ctx ends.
func (s *server) reportLostLines(ctx context.Context) {
	tick := time.NewTicker(summaryEvery)
	defer tick.Stop()
	var before uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if n := s.options.Log.Dropped(); n > before {
				s.log.Warn("log lines were lost: writing them failed or took too long", "lines", n-before)
				before = n
			}
		}
	}
}

func (d *decisionLog) flush() {
	for _, code := range authz.Codes() {
		if n := d.samples[code].suppressed.Swap(0); n > 0 {
			d.log.Warn("decisions not logged one by one, there were too many", "code", code.String(), "suppressed", n)
		}
	}
}
