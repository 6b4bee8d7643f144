package server

import (
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestObservePanicked: each panic is counted, and one a second is logged.
func TestObservePanicked(t *testing.T) {
	var b strings.Builder
	at := time.Unix(1_800_000_000, 0)
	m := newMetrics(Options{Log: NewLogWriter(io.Discard)})
	l := &panicLog{log: slog.New(slog.NewTextHandler(&b, nil)), metrics: m, now: func() time.Time { return at }}
	for range 3 {
		l.observePanicked(errors.New("the check panicked (string) in\nx"))
	}
	at = at.Add(time.Second)
	l.observePanicked(errors.New("again"))
	w := httptest.NewRecorder()
	m.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(w.Body.String(), "\nextauthz_panics_total 4\n") {
		t.Errorf("not counted 4 times:\n%s", w.Body)
	}
	if log := b.String(); strings.Count(log, "\n") != 2 || !strings.Contains(log, "again") || !strings.Contains(log, "UNAVAILABLE") {
		t.Errorf("logged:\n%s", log)
	}
}
