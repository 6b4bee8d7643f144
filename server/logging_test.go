package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"extauthz/authz"
	"extauthz/backend"
	"extauthz/check"
	"extauthz/config"
	"extauthz/keystore"
	"extauthz/strictyaml"
)

func refusal(code authz.Code) *check.Observation {
	return &check.Observation{
		Decision:   authz.Decision{Code: code, Key: &keystore.Key{ID: "key_a"}},
		ClientAddr: netip.MustParseAddr("192.0.2.7"), AddrFrom: "peer",
		Method: "GET", Host: "api.example.com", Path: "/things",
	}
}

// A flood of refusals writes a bounded number of lines, and then how many were left out.
func TestFloodIsSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &buffer{}
		d := newDecisionLog(newLogger(config.Log{Format: "text"}, log), time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		go d.summarize(ctx)
		for range 3 {
			for range 1000 {
				d.observe(ctx, refusal(authz.Forbidden))
			}
			d.observe(ctx, refusal(authz.NotFound)) // not drowned by the others
			time.Sleep(time.Second)
		}
		time.Sleep(summaryEvery)
		synctest.Wait()
		text := log.String()
		if n := strings.Count(text, "code=FORBIDDEN key_id=key_a"); n != 3*linesPerSecond {
			t.Errorf("%d lines of refusals, want %d", n, 3*linesPerSecond)
		}
		if n := strings.Count(text, "code=NOT_FOUND key_id=key_a"); n != 3 {
			t.Errorf("%d lines of another code, want 3", n)
		}
		if !strings.Contains(text, "code=FORBIDDEN suppressed=2970") {
			t.Errorf("no count of what was left out:\n%s", text)
		}
		cancel()
		synctest.Wait()
	})
}

// A key file in which every line is wrong does not write a log as long as itself.
func TestManyMistakesAreCut(t *testing.T) {
	log := &buffer{}
	s := testServer(config.Default(), log)
	var many strictyaml.Errors
	for line := range 10_000 {
		many = append(many, &strictyaml.Error{File: "keys.yaml", Line: line + 1, Column: 1, Message: "this is wrong"})
	}
	s.reloaded(backend.Reload{Err: many})
	s.warn(many)
	if text := log.String(); len(text) > 8<<10 || !strings.Contains(text, "keys.yaml:1:1: this is wrong") || !strings.Contains(text, "more=9980") {
		t.Errorf("%d bytes: %.2000s", len(text), text)
	}
}

func TestLevels(t *testing.T) {
	failed := refusal(authz.Unavailable)
	failed.Err = errors.New("the store is out of reach")
	for _, c := range []struct {
		o    *check.Observation
		want slog.Level
	}{
		{refusal(authz.Valid), slog.LevelDebug},
		{refusal(authz.Forbidden), slog.LevelInfo},
		{refusal(authz.NotFound), slog.LevelInfo},
		{refusal(authz.Unavailable), slog.LevelError},
		{failed, slog.LevelError},
	} {
		if got := levelOf(c.o); got != c.want {
			t.Errorf("%s is logged at %s, want %s", c.o.Decision.Code, got, c.want)
		}
	}

	log := &buffer{}
	d := newDecisionLog(newLogger(config.Log{Level: slog.LevelInfo, Format: "text"}, log), time.Now)
	d.observe(t.Context(), refusal(authz.Valid))
	if log.String() != "" {
		t.Errorf("an allowed request is logged at info: %s", log)
	}
}

// At debug there is one line a decision, however many there are.
func TestDebugIsWhole(t *testing.T) {
	log := &buffer{}
	d := newDecisionLog(newLogger(config.Log{Level: slog.LevelDebug, Format: "json"}, log), time.Now)
	for range 100 {
		d.observe(t.Context(), refusal(authz.Forbidden))
		d.observe(t.Context(), refusal(authz.Valid))
	}
	if n := strings.Count(log.String(), "\n"); n != 200 {
		t.Errorf("%d lines, want 200", n)
	}
}

// What a caller sends cannot make a line of its own, nor an attribute.
func TestLogInjection(t *testing.T) {
	o := refusal(authz.NotFound)
	o.Path, o.Host, o.RequestID = "/a\ntime=now level=INFO msg=decision code=VALID", "a\" code=VALID x=\"", "\x1b[2J\x00\xff"
	o.ClientAddr, o.AddrErr = netip.Addr{}, errors.New("no\nentry")
	for _, format := range []string{"text", "json"} {
		log := &buffer{}
		newDecisionLog(newLogger(config.Log{Format: format}, log), time.Now).observe(t.Context(), o)
		text := log.String()
		if strings.Count(text, "\n") != 1 || strings.ContainsAny(text, "\x1b\x00") || strings.HasPrefix(text, "time=now") {
			t.Errorf("%s: %q", format, text)
		}
		if !strings.Contains(text, "client_address_error") {
			t.Errorf("%s: why there is no address is not told: %s", format, text)
		}
		if format == "json" {
			var line map[string]any
			if err := json.Unmarshal([]byte(text), &line); err != nil || line["code"] != "NOT_FOUND" || line["path"] != o.Path {
				t.Errorf("%v: %v", err, line)
			}
		}
	}
}
