package server

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/metadata"

	"extauthz/check"
	"extauthz/config"
	"extauthz/keystore"
	"extauthz/keystore/cache"
	"extauthz/keystore/storetest"
	"extauthz/polltest"
	"extauthz/proctest"
	"extauthz/tracing"
	"extauthz/tracing/otlptest"
)

const (
	tracedSecret = "sk_live_4711"
	callerParent = "00-" + callerTrace + "-00f067aa0ba902b7-01"
)

// traced returns a server that exports spans to an endpoint, over a store with a cache, and a function that
// sends it a check.
func traced(t testing.TB, c config.Tracing, log *proctest.Buffer) (s *server, send func(ctx context.Context, secret string) bool) {
	t.Helper()
	k := storetest.NewKey("key_traced", "10.0.0.0/8")
	k.Hash, k.ExternalID = keystore.Secret(tracedSecret).Hash(), "acme"
	k.Ratelimits = []keystore.Ratelimit{{Name: "requests", Limit: 1_000_000_000, Duration: time.Hour}}
	settings := cache.DefaultConfig()
	settings.OnWait = tracing.Lookup
	cached, err := cache.New(storetest.NewMemory(k), settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cached.Close)
	cfg := config.Default()
	cfg.Tracing = c
	cfg.DecisionLog.Path, cfg.DecisionLog.Allowed = t.TempDir()+"/decisions.log", 1
	s = testServer(t, cfg, log)
	conn := serveOver(t, s, cfg, cached)
	return s, func(ctx context.Context, secret string) bool {
		return checkWith(ctx, t, conn, map[string]string{"x-api-key": secret, "traceparent": callerParent, "x-request-id": "r-1"})
	}
}

func TestTraces(t *testing.T) {
	for _, protocol := range []string{config.OTLPOverGRPC, config.OTLPOverHTTP} {
		for _, addresses := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, addresses=%t", protocol, addresses), func(t *testing.T) {
				collector, log := otlptest.Start(t), &proctest.Buffer{}
				endpoint := map[string]string{config.OTLPOverGRPC: collector.GRPC, config.OTLPOverHTTP: collector.HTTP}[protocol]
				s, send := traced(t, config.Tracing{Endpoint: endpoint, Protocol: protocol, Addresses: addresses}, log)
				within := metadata.AppendToOutgoingContext(within(t.Context(), true), "tracestate", "ot=th:8")
				for _, secret := range []string{tracedSecret, tracedSecret, "sk_other_4711"} {
					if send(within, secret) != (secret == tracedSecret) {
						t.Fatal("another decision")
					}
				}
				polltest.Until(t, "seven spans", func() bool { return s.now.Load().tracing.Stats().Exported == 7 })
				checks := collector.Named("check")
				if len(checks) != 3 {
					t.Fatalf("%d checks", len(checks))
				}
				for _, c := range checks {
					if c.Service != "extauthz" || c.TraceID != envoyTrace || c.ParentID != envoySpan || c.State != "ot=th:8" || c.Kind != tracepb.Span_SPAN_KIND_SERVER || c.End < c.Start || c.Failed {
						t.Errorf("%+v is no child of Envoy's span", c)
					}
					if len(c.Links) != 1 || c.Links[0] != callerTrace {
						t.Errorf("the links are %v, want the caller's trace", c.Links)
					}
					if got := c.Attributes["client.address"]; (got == "10.1.2.3") != addresses || (got == "") == addresses {
						t.Errorf("client.address is %q", got)
					}
				}
				if got := checks[0].Attributes; got["extauthz.code"] != "VALID" || got["extauthz.key_id"] != "key_traced" || got["extauthz.owner"] != "acme" || got["url.path"] != "/" || got["extauthz.request_id"] != "r-1" {
					t.Errorf("attributes %v", got)
				}
				if got := checks[2].Attributes["extauthz.code"]; got != "NOT_FOUND" {
					t.Errorf("the third is %s", got)
				}
				lookups, limits := collector.Named("store look-up"), collector.Named("rate limits")
				if len(lookups) != 2 || lookups[0].ParentID != checks[0].ID || lookups[1].ParentID != checks[2].ID || lookups[0].TraceID != envoyTrace {
					t.Errorf("look-ups in the store %+v, want one for each secret", lookups)
				}
				if len(limits) != 2 || limits[0].ParentID != checks[0].ID || limits[1].ParentID != checks[1].ID {
					t.Errorf("limits %+v", limits)
				}
				text := fmt.Sprint(collector.Spans())
				if strings.Contains(text, "4711") || !addresses && strings.Contains(text, "10.1.2.3") {
					t.Errorf("a secret, or an address: %s", text)
				}
				if n := s.now.Load().tracing.Stats(); n.Dropped != 0 || strings.Contains(log.String(), "spans") {
					t.Errorf("%+v\n%s", n, log)
				}
			})
		}
	}
}

// Only checks in traces that Envoy records have spans, whatever the caller sends, and those in the ratio.
func TestWhatIsTraced(t *testing.T) {
	collector := otlptest.Start(t)
	c := config.Tracing{Endpoint: collector.GRPC, Protocol: config.OTLPOverGRPC}
	s, send := traced(t, c, &proctest.Buffer{})
	send(t.Context(), tracedSecret)
	send(within(t.Context(), false), tracedSecret)
	s.now.Load().tracing.close()
	if spans := collector.Spans(); len(spans) > 0 {
		t.Errorf("traced: %+v", spans)
	}

	c.Ratio = 1
	s, send = traced(t, c, &proctest.Buffer{})
	send(within(t.Context(), false), tracedSecret) // Envoy has decided
	send(t.Context(), tracedSecret)
	s.now.Load().tracing.close()
	s.now.Load().decisions.close()
	checks := collector.Named("check")
	if len(checks) != 1 || checks[0].ParentID != "" || len(checks[0].TraceID) != 32 || checks[0].TraceID == callerTrace || len(checks[0].Links) != 1 {
		t.Fatalf("checks %+v, want one that begins a trace", checks)
	}
	lines, err := os.ReadFile(s.now.Load().cfg.DecisionLog.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"trace_id":"` + envoyTrace + `","trace_id_from":"proxy"`, `"trace_id":"` + checks[0].TraceID + `","trace_id_from":"extauthz"`} {
		if !strings.Contains(string(lines), want) {
			t.Errorf("the decision log has no %s:\n%s", want, lines)
		}
	}
	if text := openMetrics(t, s); !strings.Contains(text, `# {trace_id="`+checks[0].TraceID+`"}`) {
		t.Errorf("no exemplar:\n%s", text)
	}
}

// A check that has to wait is drawn for the sample once, as any other, and its lookup is in its span.
func TestAWaitingCheckIsDrawnOnce(t *testing.T) {
	collector := otlptest.Start(t)
	s, _ := traced(t, config.Tracing{Endpoint: collector.GRPC, Protocol: config.OTLPOverGRPC, Ratio: 1}, &proctest.Buffer{})
	checker := s.now.Load().checker
	a := &check.Attributes{Path: "/", Peer: "10.1.2.3", Headers: []check.Field{{Name: "x-api-key", Value: tracedSecret}}}
	var o check.Outcome
	begun, done := checker.TryCheck(t.Context(), a, &o)
	if done || tracing.Root(begun) == "" {
		t.Fatalf("done %t, in the trace %q", done, tracing.Root(begun))
	}
	if checker.Continue(begun, a, &o); !o.Allowed() {
		t.Fatal("refused")
	}
	s.now.Load().tracing.close()
	checks, lookups := collector.Named("check"), collector.Named("store look-up")
	if len(checks) != 1 || checks[0].TraceID != tracing.Root(begun) || len(lookups) != 1 || lookups[0].ParentID != checks[0].ID {
		t.Errorf("checks %+v, lookups %+v, want one of each in the trace %s", checks, lookups, tracing.Root(begun))
	}
}

// A collector that hangs or is unreachable neither delays nor refuses a check. Lost spans are counted and
// logged.
func TestCollectorLost(t *testing.T) {
	t.Parallel()
	collector := otlptest.Start(t)
	t.Cleanup(collector.Hang())
	for name, endpoint := range map[string]string{"hangs": collector.GRPC, "gone": "http://127.0.0.1:1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &proctest.Buffer{}
			s, send := traced(t, config.Tracing{Endpoint: endpoint, Protocol: config.OTLPOverGRPC}, log)
			ctx := within(t.Context(), true)
			for range 100 {
				if !send(ctx, tracedSecret) {
					t.Fatal("refused")
				}
			}
			trace := s.now.Load().tracing
			polltest.Until(t, "the queue is full", func() bool {
				for range 1000 { // one check each, without the transport
					ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("traceparent", "00-"+envoyTrace+"-"+envoySpan+"-01"))
					trace.End(trace.begin()(ctx), new(check.Observation))
				}
				return trace.Stats().Dropped > 0
			})
			if !send(ctx, tracedSecret) {
				t.Error("refused")
			}
			if !strings.Contains(scrape(t, s), "\nextauthz_tracing_spans_dropped_total ") || strings.Contains(scrape(t, s), "\nextauthz_tracing_spans_dropped_total 0\n") {
				t.Error("not counted")
			}
			polltest.Until(t, "the failure is logged", func() bool { return strings.Contains(log.String(), "exporting spans failed") })
			if n := strings.Count(log.String(), "\n"); n > 3 {
				t.Errorf("%d lines:\n%s", n, log)
			}
		})
	}
}

// A reload keeps the tracer if its settings are the same, and closes one that it replaces.
func TestTracingIsReloaded(t *testing.T) {
	collector := otlptest.Start(t)
	s, send := traced(t, config.Tracing{Endpoint: collector.GRPC, Protocol: config.OTLPOverGRPC}, &proctest.Buffer{})
	before := s.now.Load()
	apply := func(change func(*config.Config)) *tracer {
		t.Helper()
		next := *s.now.Load().cfg
		change(&next)
		if err := s.apply(t.Context(), &next); err != nil {
			t.Fatal(err)
		}
		return s.now.Load().tracing
	}
	if apply(func(c *config.Config) { c.ForwardKey = true }) != before.tracing {
		t.Error("another field replaces the tracing")
	}
	if apply(func(c *config.Config) { c.Tracing.Endpoint = collector.HTTP; c.Tracing.Protocol = config.OTLPOverHTTP }) == before.tracing {
		t.Error("the tracing stays")
	}
	send(within(t.Context(), true), tracedSecret)
	if apply(func(c *config.Config) { c.Tracing.Endpoint = config.NoTracing }) != nil {
		t.Error("the tracing does not end")
	}
	send(within(t.Context(), true), tracedSecret)
	polltest.Until(t, "one check", func() bool { return len(collector.Named("check")) == 1 })
}

// tracingModes are the ways to trace a check. The first two must cost the same.
func tracingModes(t testing.TB) map[string]func() {
	collector := otlptest.Start(t)
	modes := make(map[string]func())
	for name, flags := range map[string]string{"off": "-00", "not sampled": "-00", "sampled": "-01"} {
		c := config.Tracing{Endpoint: collector.GRPC, Protocol: config.OTLPOverGRPC}
		if name == "off" {
			c = config.Tracing{Endpoint: config.NoTracing}
		}
		s, _ := traced(t, c, &proctest.Buffer{})
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("user-agent", "envoy", "traceparent", "00-"+envoyTrace+"-"+envoySpan+flags))
		a := &check.Attributes{Method: "GET", Path: "/things", Host: "api.example.com", Peer: "10.1.2.3", Headers: []check.Field{{Name: "x-api-key", Value: tracedSecret}}}
		var o check.Outcome
		modes[name] = func() { s.now.Load().checker.Check(ctx, a, &o) }
	}
	return modes
}

func TestUntracedChecksCostNothing(t *testing.T) {
	modes := tracingModes(t)
	off, unsampled := testing.AllocsPerRun(2000, modes["off"]), testing.AllocsPerRun(2000, modes["not sampled"])
	if off != unsampled {
		t.Errorf("%v allocations without tracing, %v with it for a check that is not sampled", off, unsampled)
	}
}

func BenchmarkTracing(b *testing.B) {
	modes := tracingModes(b)
	for _, name := range []string{"off", "not sampled", "sampled"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				modes[name]()
			}
		})
	}
}
