package server

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/metadata"

	"extauthz/check"
	"extauthz/config"
	"extauthz/decisionlog"
	"extauthz/keystore"
)

// openDecisionLog opens the decision log, if one is configured.
func (s *server) openDecisionLog() error {
	c := s.cfg.DecisionLog
	if c.Path == config.DecisionsNowhere || c.Path == "" {
		return nil
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
		return err
	}
	s.decisionFile = l
	s.atEnd(func() {
		if lost := l.Close(); lost > 0 {
			s.log.Error("the decision log did not write everything before the end", "decisions", lost)
		}
	})
	s.metrics.addDecisionLog(l)
	return nil
}

// recordDecision returns the hook that writes the decision log, or nil if there is none.
func (s *server) recordDecision() func(context.Context, *check.Observation) bool {
	l := s.decisionFile
	if l == nil {
		return nil
	}
	return func(ctx context.Context, o *check.Observation) bool { return l.Record(o, traceParent(ctx)) }
}

// traceParent returns the traceparent of a gRPC call, or "" if it has none. Envoy sets it, so no
// caller chooses it.
func traceParent(ctx context.Context) string {
	if values := metadata.ValueFromIncomingContext(ctx, "traceparent"); len(values) == 1 {
		return values[0]
	}
	return ""
}

func (m *metrics) addDecisionLog(l *decisionlog.Log) {
	figure := func(name, help string, value func(decisionlog.Stats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "extauthz_decision_log_" + name + "_total", Help: help},
			func() float64 { return float64(value(l.Stats())) })
	}
	m.registry.MustRegister(
		figure("written", "Decisions that were written to the decision log.", func(s decisionlog.Stats) uint64 { return s.Written }),
		figure("dropped", "Decisions that were not written to the decision log, because its buffer was full.", func(s decisionlog.Stats) uint64 { return s.Dropped }),
		figure("errors", "Writes and rotations of the decision log that failed.", func(s decisionlog.Stats) uint64 { return s.Errors }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "extauthz_decision_log_buffer_bytes", Help: fmt.Sprintf("Bytes that wait to be written to the decision log, of %d.", decisionlog.DefaultBuffer)},
			func() float64 { return float64(l.Stats().Pending) }),
	)
}

// LookupStale implements [keystore.StaleStore].
func (k *keys) LookupStale(ctx context.Context, h keystore.Hash) (key *keystore.Key, stale bool, err error) {
	if k.cache != nil {
		return k.cache.LookupStale(ctx, h)
	}
	key, err = k.Lookup(ctx, h)
	return key, false, err
}
