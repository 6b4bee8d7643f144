package server

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"extauthz/check"
	"extauthz/config"
	"extauthz/decisionlog"
	"extauthz/keystore"
)

// A decisionFile is the decision log of a snapshot. A nil one records nothing.
type decisionFile struct {
	*decisionlog.Log
	close func() // it may be called more than once
}

// openDecisionLog opens the decision log, or returns nil if none is configured.
func (s *server) openDecisionLog(c config.DecisionLog) (*decisionFile, error) {
	if c.Path == config.DecisionsNowhere || c.Path == "" {
		return nil, nil //nolint:nilnil // no decision log is configured, which is not an error
	}
	var lines throttle
	settings := decisionlog.Config{
		Path: c.Path, Allowed: c.Allowed, Refused: c.Refused, MaxSize: int(c.MaxSize >> 20), Keep: c.Keep, Refuse: c.OnFull == config.OnFullRefuse,
		OnError: func(err error) {
			if lines.allow(time.Now()) {
				s.log.Error("writing the decision log failed: it is tried again", "error", clip(oneLine(err)))
			}
		},
	}
	if c.Path == config.DecisionsStdout {
		settings.Writer = os.Stdout
	}
	l, err := decisionlog.Open(settings)
	if err != nil {
		return nil, err
	}
	d := &decisionFile{l, sync.OnceFunc(func() {
		if lost := l.Close(); lost > 0 {
			s.log.Error("the decision log was closed before all decisions were written", "decisions", lost)
		}
	})}
	s.atEnd(d.close)
	s.addDecisionLogMetrics()
	return d, nil
}

// hook returns what records a decision, or nil if there is no log.
func (d *decisionFile) hook(t *tracer) func(context.Context, *check.Observation) bool {
	if d == nil {
		return nil
	}
	return func(ctx context.Context, o *check.Observation) bool {
		trace, from := t.traceOf(ctx)
		return d.Record(o, trace.TraceID, from)
	}
}

// addDecisionLogMetrics registers the metrics of the current decision log, unless they are registered.
func (s *server) addDecisionLogMetrics() {
	stats := func() (is decisionlog.Stats) {
		if n := s.now.Load(); n != nil && n.decisions != nil {
			is = n.decisions.Stats()
		}
		return is
	}
	figure := func(name, help string, value func(decisionlog.Stats) uint64) {
		registered[prometheus.Collector](s.metrics.registry, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "extauthz_decision_log_" + name + "_total", Help: help},
			func() float64 { return float64(value(stats())) }))
	}
	figure("written", "Decisions that were written to the decision log.", func(s decisionlog.Stats) uint64 { return s.Written })
	figure("dropped", "Decisions that were not written to the decision log, because its buffer was full.", func(s decisionlog.Stats) uint64 { return s.Dropped })
	figure("errors", "Writes and rotations of the decision log that failed.", func(s decisionlog.Stats) uint64 { return s.Errors })
	registered[prometheus.Collector](s.metrics.registry, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "extauthz_decision_log_buffer_bytes", Help: fmt.Sprintf("Bytes that wait to be written to the decision log, of %d.", decisionlog.DefaultBuffer),
	}, func() float64 { return float64(stats().Pending) }))
}

// LookupStale implements [keystore.StaleStore].
func (k *keys) LookupStale(ctx context.Context, h keystore.Hash) (key *keystore.Key, stale bool, err error) {
	if k.cache != nil {
		return k.cache.LookupStale(ctx, h)
	}
	key, err = k.Lookup(ctx, h)
	return key, false, err
}
