package server

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"extauthz/check"
	"extauthz/config"
	"extauthz/ratelimit"
	"extauthz/traceparent"
	"extauthz/tracing"
)

// A tracer is the tracing of a snapshot. A nil one traces nothing.
type tracer struct {
	*tracing.Tracer
	close func() // it may be called more than once
}

// openTracing returns what exports spans, or nil if nothing is traced.
func (s *server) openTracing(ctx context.Context, c config.Tracing) (*tracer, error) {
	endpoint := c.URL()
	if endpoint == nil {
		return nil, nil //nolint:nilnil // tracing is not configured, which is not an error
	}
	var lines throttle
	opened, err := tracing.Open(ctx, tracing.Config{
		Endpoint: endpoint, HTTP: c.Protocol == config.OTLPOverHTTP, Ratio: c.Ratio, Addresses: c.Addresses, Version: s.options.Version,
		OnError: func(err error) {
			if lines.allowOne(time.Now()) {
				s.log.Warn("exporting spans failed: what the collector did not accept is lost", "endpoint", endpoint.String(), "error", clip(oneLine(err)))
			}
		},
	})
	if err != nil {
		return nil, err
	}
	t := &tracer{opened, sync.OnceFunc(opened.Close)}
	s.atEnd(t.close)
	s.addTracingMetrics()
	return t, nil
}

// addTracingMetrics registers the metrics of the current tracing, unless they are registered.
func (s *server) addTracingMetrics() {
	figure := func(name, help string, value func(tracing.Stats) uint64) {
		registered[prometheus.Collector](s.metrics.registry, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "extauthz_tracing_" + name + "_total", Help: help}, func() float64 {
			if n := s.now.Load(); n != nil && n.tracing != nil {
				return float64(value(n.tracing.Stats()))
			}
			return 0
		}))
	}
	figure("spans_exported", "Spans that the collector accepted.", func(s tracing.Stats) uint64 { return s.Exported })
	figure("spans_dropped", "Spans that were lost, because the queue was full or the collector did not accept them.", func(s tracing.Stats) uint64 { return s.Dropped })
	figure("export_failures", "Exports of spans that failed.", func(s tracing.Stats) uint64 { return s.Failures })
}

// begin returns what begins the span of a check, or nil if nothing is traced.
func (t *tracer) begin() func(context.Context) context.Context {
	if t == nil {
		return nil
	}
	return func(ctx context.Context) context.Context {
		parent, state := parentOf(ctx), ""
		if parent.Sampled {
			state = strings.Join(metadataOf(ctx)["tracestate"], ",")
		}
		return t.Begin(ctx, parent, state)
	}
}

// end ends the span of a check.
func (t *tracer) end(ctx context.Context, o *check.Observation) {
	if t != nil {
		t.End(ctx, o)
	}
}

// traceOf returns the trace that a check belongs to, and who began it: the proxy, or, by
// tracing.ratio, the server.
func (t *tracer) traceOf(ctx context.Context) (parent traceparent.Parent, from string) {
	if parent = parentOf(ctx); parent.TraceID != "" {
		return parent, "proxy"
	}
	if t == nil {
		return parent, ""
	}
	if root := tracing.Root(ctx); root != "" {
		return traceparent.Parent{TraceID: root, Sampled: true}, "extauthz"
	}
	return parent, ""
}

// limiter returns the limiter, with spans if anything is traced.
func (t *tracer) limiter(l ratelimit.Limiter) ratelimit.Limiter {
	if t == nil {
		return l
	}
	return tracing.Limits(l)
}
