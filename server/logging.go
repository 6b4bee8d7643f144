package server

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/grpclog"

	"extauthz/config"
)

// NewLogger returns a logger that writes one line for each event to w. Both formats quote values that
// could be mistaken for another line or attribute.
func NewLogger(c config.Log, w io.Writer) *slog.Logger { return slog.New(newHandler(c, w)) }

func newHandler(c config.Log, w io.Writer) slog.Handler {
	o := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.NewJSONHandler(w, o)
	}
	return slog.NewTextHandler(w, o)
}

// A liveHandler is a [slog.Handler] whose level and format can change.
type liveHandler struct{ current atomic.Pointer[slog.Handler] }

func newLiveHandler(c config.Log, w io.Writer) *liveHandler {
	h := new(liveHandler)
	h.set(c, w)
	return h
}

func (h *liveHandler) set(c config.Log, w io.Writer) {
	next := newHandler(c, w)
	h.current.Store(&next)
}

// Enabled implements [slog.Handler].
func (h *liveHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return (*h.current.Load()).Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (h *liveHandler) Handle(ctx context.Context, r slog.Record) error {
	return (*h.current.Load()).Handle(ctx, r)
}

// WithAttrs implements [slog.Handler]. The result does not change with h.
func (h *liveHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return (*h.current.Load()).WithAttrs(attrs)
}

// WithGroup implements [slog.Handler]. The result does not change with h.
func (h *liveHandler) WithGroup(name string) slog.Handler {
	return (*h.current.Load()).WithGroup(name)
}

// captureLogs redirects the logs of libraries to log. They would otherwise write to standard error, and
// block on it.
func captureLogs(log *slog.Logger) {
	slog.SetDefault(log)
	errors := slog.NewLogLogger(log.Handler(), slog.LevelError).Writer() //nolint:forbidigo // what gRPC takes; it writes to log
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, errors))
}

// maxErrorText is the maximum length of an error in a line, in bytes. The error of a panic includes its place.
const maxErrorText = 2048

func clip(s string) string {
	if len(s) > maxErrorText {
		return s[:maxErrorText] + "…"
	}
	return s
}

// oneLine returns the error's text without its line breaks.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// A throttle limits the rate of lines to throttledLines. Its zero value is ready, and it is safe for
// concurrent use.
type throttle struct {
	mu     sync.Mutex
	second int64
	lines  int
}

const throttledLines = 10 // per second

func (t *throttle) allow(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if second := now.Unix(); second != t.second {
		t.second, t.lines = second, 0
	}
	t.lines++
	return t.lines <= throttledLines
}

// allowOne reports whether a line may be written, for one line every ten seconds.
func (t *throttle) allowOne(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	second := now.Unix()
	if second-t.second < 10 {
		return false
	}
	t.second = second
	return true
}

// reportLostLines periodically logs how many log lines were lost, until ctx ends.
func (s *server) reportLostLines(ctx context.Context) {
	tick := time.NewTicker(samplePeriod)
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
