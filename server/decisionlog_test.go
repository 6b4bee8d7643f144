package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"extauthz/authz"
	"extauthz/backend"
	"extauthz/check"
	"extauthz/config"
	"extauthz/keystore"
	"extauthz/proctest"
	"extauthz/strictyaml"
	"extauthz/traceparent"
)

func refusal(code authz.Code, id string) *check.Observation {
	var key *keystore.Key
	if id != "" {
		key = &keystore.Key{ID: id}
	}
	return &check.Observation{
		Decision:   authz.Decision{Code: code, Key: key},
		ClientAddr: netip.MustParseAddr("192.0.2.7"), AddrFrom: "peer",
		Method: "GET", Host: "api.example.com", Path: "/things",
	}
}

// A flood of refusals writes a bounded number of lines, and then the number of omitted ones.
func TestFloodIsSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &proctest.Buffer{}
		d := newDecisionLog(NewLogger(config.Log{Format: "text"}, log))
		ctx, cancel := context.WithCancel(t.Context())
		go d.summarize(ctx)
		for i := range 3 * 1000 {
			d.observe(ctx, refusal(authz.Forbidden, "key_a"))
			if i%1000 == 0 {
				d.observe(ctx, refusal(authz.NotFound, "")) // logged despite the others
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(samplePeriod)
		d.observe(ctx, refusal(authz.Forbidden, "key_a"))
		synctest.Wait()
		text := log.String()
		if n := strings.Count(text, "code=FORBIDDEN key_id=key_a"); n != linesPerKey+1 {
			t.Errorf("%d lines of refusals, want %d", n, linesPerKey+1)
		}
		if n := strings.Count(text, "msg=decision code=NOT_FOUND"); n != 3 {
			t.Errorf("%d lines of another code, want 3", n)
		}
		if !strings.Contains(text, "code=FORBIDDEN suppressed=2990 loudest_keys=key_a=2990\n") && !strings.Contains(text, "code=FORBIDDEN suppressed=2990 loudest_keys=\"key_a=2990\"\n") {
			t.Errorf("no count of what was left out:\n%s", text)
		}
		cancel()
		synctest.Wait()
	})
}

// Keys whose requests are always refused do not suppress the lines of others.
func TestNoisyKeysHideNoOther(t *testing.T) {
	for _, noisy := range []int{1, 50, sampledKeys - 1} {
		log := &proctest.Buffer{}
		d := newDecisionLog(NewLogger(config.Log{Format: "text"}, log))
		for range 100 {
			for i := range noisy {
				d.observe(t.Context(), refusal(authz.Forbidden, fmt.Sprintf("key_%d", i)))
			}
		}
		for range 8 {
			d.observe(t.Context(), refusal(authz.Forbidden, "key_quiet"))
		}
		if n := strings.Count(log.String(), "key_id=key_quiet"); n != 8 {
			t.Errorf("%d noisy keys: %d lines of the quiet one, want 8", noisy, n)
		}
	}
}

// A request that a whitelist in report mode would refuse is logged and sampled like a refusal, and counted.
func TestWouldRefuse(t *testing.T) {
	log := &proctest.Buffer{}
	s := testServer(t, &config.Config{Log: config.Log{Format: "text"}}, log)
	d := newDecisionLog(s.log)
	reported := refusal(authz.Valid, "key_a")
	reported.Decision.WouldRefuse = true
	for range 3 * linesPerKey {
		d.observe(t.Context(), reported)
		d.observe(t.Context(), refusal(authz.Valid, "key_a")) // logged at debug alone
		s.metrics.observe(reported, traceparent.Parent{})
		s.metrics.observe(refusal(authz.Valid, "key_a"), traceparent.Parent{})
	}
	d.flush()
	if n := strings.Count(log.String(), "level=INFO msg=decision code=VALID key_id=key_a client_address=192.0.2.7"); n != linesPerKey {
		t.Errorf("%d lines, want %d:\n%s", n, linesPerKey, log)
	}
	if n := strings.Count(log.String(), " would_refuse=FORBIDDEN\n"); n != linesPerKey {
		t.Errorf("%d lines say what would have been refused, want %d:\n%s", n, linesPerKey, log)
	}
	if !strings.Contains(log.String(), "code=VALID suppressed=20 would_refuse=FORBIDDEN loudest_keys=") {
		t.Errorf("no summary:\n%s", log)
	}
	if text := scrape(t, s); !strings.Contains(text, "extauthz_would_refuse_total 30\n") || !strings.Contains(text, `extauthz_decisions_total{code="VALID"} 60`) {
		t.Errorf("metrics:\n%s", text)
	}
}

// For any number of refused keys, the lines and the memory of a period are bounded, and the count is
// complete.
func TestManyKeysAreSampled(t *testing.T) {
	log := &proctest.Buffer{}
	d := newDecisionLog(NewLogger(config.Log{Format: "text"}, log))
	const keys, each = 10_000, 11
	for range each {
		for i := range keys {
			d.observe(t.Context(), refusal(authz.RateLimited, fmt.Sprintf("key_%d", i)))
		}
	}
	for range 50 {
		d.observe(t.Context(), refusal(authz.RateLimited, "key_7"))
	}
	const written = sampledKeys*linesPerKey + linesWithoutKey
	if n := strings.Count(log.String(), "msg=decision "); n != written {
		t.Errorf("%d lines, want %d", n, written)
	}
	d.flush()
	summary := fmt.Sprintf("code=RATE_LIMITED suppressed=%d loudest_keys=\"key_7=51 ", keys*each+50-written)
	if text := log.String(); !strings.Contains(text, summary) {
		t.Errorf("no summary %s in %s", summary, text[strings.LastIndex(text[:len(text)-1], "\n"):])
	}
	d.flush()
	if n := strings.Count(log.String(), "suppressed="); n != 1 {
		t.Errorf("%d summaries of one period", n)
	}
}

// With decisions: all, every refusal is logged.
func TestAllDecisions(t *testing.T) {
	log := &proctest.Buffer{}
	d := newDecisionLog(NewLogger(config.Log{Format: "text"}, log))
	d.all.Store(true)
	for range 1000 {
		d.observe(t.Context(), refusal(authz.Forbidden, "key_a"))
		d.observe(t.Context(), refusal(authz.Valid, "key_a"))
	}
	if n := strings.Count(log.String(), "code=FORBIDDEN"); n != 1000 || strings.Contains(log.String(), "code=VALID") {
		t.Errorf("%d lines, want 1000 of refusals and none of allowed requests", n)
	}
}

// The log of the errors in a key file is bounded.
func TestManyMistakesAreCut(t *testing.T) {
	log := &proctest.Buffer{}
	s := testServer(t, config.Default(), log)
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
	failed := refusal(authz.Unavailable, "key_a")
	failed.Err = errors.New("the store is out of reach")
	for _, c := range []struct {
		o    *check.Observation
		want slog.Level
	}{
		{refusal(authz.Valid, "key_a"), slog.LevelDebug},
		{refusal(authz.Forbidden, "key_a"), slog.LevelInfo},
		{refusal(authz.NotFound, "key_a"), slog.LevelInfo},
		{refusal(authz.Unavailable, "key_a"), slog.LevelError},
		{failed, slog.LevelError},
	} {
		if got := levelOf(c.o); got != c.want {
			t.Errorf("%s is logged at %s, want %s", c.o.Decision.Code, got, c.want)
		}
	}

	log := &proctest.Buffer{}
	d := newDecisionLog(NewLogger(config.Log{Level: slog.LevelInfo, Format: "text"}, log))
	d.observe(t.Context(), refusal(authz.Valid, "key_a"))
	if log.String() != "" {
		t.Errorf("an allowed request is logged at info: %s", log)
	}
}

// At the level debug, every decision is logged.
func TestDebugIsWhole(t *testing.T) {
	log := &proctest.Buffer{}
	d := newDecisionLog(NewLogger(config.Log{Level: slog.LevelDebug, Format: "json"}, log))
	for range 100 {
		d.observe(t.Context(), refusal(authz.Forbidden, "key_a"))
		d.observe(t.Context(), refusal(authz.Valid, "key_a"))
	}
	if n := strings.Count(log.String(), "\n"); n != 200 {
		t.Errorf("%d lines, want 200", n)
	}
}

// A caller cannot inject a line or an attribute.
func TestLogInjection(t *testing.T) {
	o := refusal(authz.NotFound, "key_a")
	o.Path, o.Host, o.RequestID = "/a\ntime=now level=INFO msg=decision code=VALID", "a\" code=VALID x=\"", "\x1b[2J\x00\xff"
	o.ClientAddr, o.AddrErr = netip.Addr{}, errors.New("no\nentry")
	for _, format := range []string{"text", "json"} {
		log := &proctest.Buffer{}
		newDecisionLog(NewLogger(config.Log{Format: format}, log)).observe(t.Context(), o)
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

// A refusal's line contains the requirements of the route.
func TestLogNamesWhatTheRouteAsks(t *testing.T) {
	log := &proctest.Buffer{}
	d := newDecisionLog(NewLogger(config.Log{Format: "text"}, log))
	o := refusal(authz.InsufficientPermissions, "key_a")
	o.Permissions, o.Ratelimits = "documents.read OR admin", "exports=1"
	d.observe(t.Context(), o)
	if want := ` path=/things permissions="documents.read OR admin" ratelimits="exports=1"`; !strings.Contains(log.String(), want) {
		t.Errorf("the log is %s, want %s", log, want)
	}
	d.observe(t.Context(), refusal(authz.Forbidden, "key_b"))
	if n := strings.Count(log.String(), "permissions="); n != 1 {
		t.Errorf("a route that asks for nothing is logged as one that does: %s", log)
	}
}

// Periods end while decisions are made, including the first one of a code.
func TestPeriodsEndWhileDecisionsAreMade(t *testing.T) {
	d := newDecisionLog(slog.New(slog.DiscardHandler))
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range 5000 {
				d.sample(refusal(authz.Codes()[i%len(authz.Codes())], fmt.Sprintf("key_%d", i%7)))
			}
		})
	}
	wg.Go(func() {
		for range 2000 {
			d.flush()
		}
	})
	wg.Wait()
}
