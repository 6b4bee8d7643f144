package server

import (
	"context"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"google.golang.org/grpc/metadata"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/config"
	"extauthz/keystore/storetest"
	"extauthz/proctest"
	"extauthz/traceparent"
)

const (
	envoyTrace  = "0af7651916cd43dd8448eb211c80319c"
	envoySpan   = "b7ad6b7169203331"
	callerTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
)

// within returns the context of a gRPC call that belongs to Envoy's trace.
func within(ctx context.Context, sampled bool) context.Context {
	flags := "-00"
	if sampled {
		flags = "-01"
	}
	return metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+envoyTrace+"-"+envoySpan+flags)
}

// openMetrics returns the metrics in the format OpenMetrics, which has exemplars.
func openMetrics(t *testing.T, s *server) string {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil)
	r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	w := httptest.NewRecorder()
	s.metrics.handler().ServeHTTP(w, r)
	return w.Body.String()
}

// Only traces that Envoy records are exemplars, whatever the caller sends.
func TestExemplars(t *testing.T) {
	cfg := config.Default()
	s := testServer(t, cfg, &proctest.Buffer{})
	conn := serveOver(t, s, cfg, storetest.NewMemory())
	caller := func(ctx context.Context) {
		t.Helper()
		if checkWith(ctx, t, conn, map[string]string{"traceparent": "00-" + callerTrace + "-00f067aa0ba902b7-01"}) {
			t.Fatal("allowed")
		}
	}
	caller(t.Context())
	caller(within(t.Context(), false))
	caller(metadata.AppendToOutgoingContext(within(t.Context(), true), "traceparent", "00-"+callerTrace+"-00f067aa0ba902b7-01")) // two: neither is trusted
	if text := openMetrics(t, s); strings.Contains(text, "trace_id") {
		t.Errorf("an exemplar of a trace that is not recorded:\n%s", text)
	}
	caller(within(t.Context(), true))
	text := openMetrics(t, s)
	if !regexp.MustCompile(`(?m)^extauthz_decision_duration_seconds_bucket\{le="[^"]+"\} \d+ # \{trace_id="`+envoyTrace+`"\} `).MatchString(text) || strings.Contains(text, callerTrace) {
		t.Errorf("no exemplar:\n%s", text)
	}
	if text := scrape(t, s); strings.Contains(text, "trace_id") || !strings.Contains(text, "extauthz_decision_duration_seconds_count 4\n") {
		t.Errorf("the text format has no exemplars:\n%s", text)
	}
}

// A scraper that supports native histograms gets one in addition to the buckets.
func TestNativeHistogram(t *testing.T) {
	s := testServer(t, config.Default(), &proctest.Buffer{})
	for _, d := range []time.Duration{time.Microsecond, 1500 * time.Nanosecond, time.Second, 0} {
		s.metrics.observe(&check.Observation{Duration: d}, traceparent.Parent{})
	}
	families, err := s.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "extauthz_decision_duration_seconds" {
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		if h.GetSchema() != 3 || len(h.GetPositiveDelta()) < 3 || h.GetZeroCount() != 1 || len(h.GetBucket()) != 15 || h.GetSampleCount() != 4 {
			t.Errorf("got %v", h)
		}
		return
	}
	t.Error("no histogram")
}

// A check whose trace is not recorded allocates nothing more.
func TestMetricsDoNotAllocate(t *testing.T) {
	s := testServer(t, config.Default(), &proctest.Buffer{})
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("user-agent", "envoy", "traceparent", "00-"+envoyTrace+"-"+envoySpan+"-00"))
	if parentOf(ctx).TraceID != envoyTrace {
		t.Fatal("the metadata of a call are not found")
	}
	o := &check.Observation{Decision: authz.Decision{Code: authz.Forbidden}, Duration: 21 * time.Microsecond}
	if n := testing.AllocsPerRun(1000, func() { s.metrics.observe(o, parentOf(ctx)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Names, units and help follow Prometheus's conventions.
func TestMetricsAreWellNamed(t *testing.T) {
	cfg := config.Default()
	cfg.DecisionLog.Path = t.TempDir() + "/decisions.log"
	s := testServer(t, cfg, &proctest.Buffer{})
	serveOver(t, s, cfg, storetest.NewMemory())
	s.metrics.addStore(s.keys, newStoreMetrics())
	s.metrics.registry.MustRegister(newKeyCount(s.log))
	s.usageMetrics()
	families, err := s.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(families) < 60 {
		t.Fatal(err, len(families))
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func BenchmarkMetrics(b *testing.B) {
	s := testServer(b, config.Default(), &proctest.Buffer{})
	o := &check.Observation{Decision: authz.Decision{Code: authz.Forbidden}, Duration: 21 * time.Microsecond}
	for name, flags := range map[string]string{"no trace": "", "not sampled": "-00", "sampled": "-01"} {
		md := metadata.Pairs("user-agent", "envoy")
		if flags != "" {
			md.Set("traceparent", "00-"+envoyTrace+"-"+envoySpan+flags)
		}
		ctx := metadata.NewIncomingContext(b.Context(), md)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.metrics.observe(o, parentOf(ctx))
			}
		})
	}
}
