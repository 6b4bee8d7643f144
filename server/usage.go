package server

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"extauthz/backend"
	"extauthz/check"
	"extauthz/config"
	"extauthz/usage"
)

// usageMetrics are the metrics of recording usage.
type usageMetrics struct {
	written, failed prometheus.Counter
	last            prometheus.Gauge
}

// usageMetrics returns the metrics, and registers them unless they are registered.
func (s *server) usageMetrics() *usageMetrics {
	registry := s.metrics.registry
	registered[prometheus.Collector](registry, prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "extauthz_usage_dropped_total", Help: "Decisions whose client address was not recorded, because the buffer or the key's share of it was full.",
	}, func() float64 {
		if n := s.now.Load(); n != nil && n.usage != nil {
			return float64(n.usage.Stats().Dropped)
		}
		return 0
	}))
	return &usageMetrics{
		written: registered(registry, counter("extauthz_usage_rows_written_total", "Rows of usage that were written to the store.")),
		failed:  registered(registry, counter("extauthz_usage_write_failures_total", "Attempts to write usage to the store that failed. What was not written is kept for the next one.")),
		last:    registered(registry, gauge("extauthz_usage_last_write_success_timestamp_seconds", "Unix time of the last successful write of usage to the store.")),
	}
}

// registered registers c and returns it, or returns the metric of the same name if there is one.
func registered[T prometheus.Collector](registry *prometheus.Registry, c T) T {
	err := registry.Register(c)
	if is, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return is.ExistingCollector.(T)
	}
	return c
}

// A usageRecorder counts who uses which key from where. A nil one counts nothing.
type usageRecorder struct {
	*usage.Recorder
	metrics *usageMetrics
	log     *slog.Logger
	close   func() // writes what is left; it may be called more than once

	down bool // the last flush failed
}

// openUsage returns a recorder of usage that runs until the server ends, or nil if none is configured.
func (s *server) openUsage(ctx context.Context, cfg *config.Config) (*usageRecorder, error) {
	c := cfg.Usage
	if !c.Record {
		return nil, nil //nolint:nilnil // usage is not recorded, which is not an error
	}
	store, err := backend.OpenUsage(ctx, cfg)
	if err != nil {
		return nil, err
	}
	u := &usageRecorder{metrics: s.usageMetrics(), log: s.log}
	u.Recorder = usage.NewRecorder(usage.RecorderConfig{Store: store, Flush: c.Flush, AddressesPerKey: c.AddressesPerKey, OnFlush: u.flushed})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		var reports sync.WaitGroup
		reports.Go(func() { s.reportUp(ctx, store, cfg.Listen.String()) })
		u.Run(ctx)
		reports.Wait()
		if err := store.Close(); err != nil {
			u.log.Warn("closing the store of usage failed", "error", oneLine(err))
		}
	}()
	u.close = sync.OnceFunc(func() { cancel(); <-done })
	s.atEnd(u.close)
	return u, nil
}

// observe counts one check of a known key.
func (u *usageRecorder) observe(o *check.Observation) {
	d := &o.Decision
	if u == nil || d.Key == nil || d.Key.Broken != nil {
		return
	}
	u.Record(&usage.Event{
		KeyID: d.Key.ID, Addr: o.ClientAddr, Code: d.Code,
		WouldRefuse: d.WouldRefuse, Previous: d.PreviousSecret, Time: o.Start.Add(o.Duration),
	})
}

// The server reports to the store of usage that it is up: every reportEvery, and, within a second, when
// the state of its channel changes.
const (
	reportEvery   = 20 * time.Second
	reportChanges = time.Second
)

// reportUp reports that the server is up until ctx ends.
func (s *server) reportUp(ctx context.Context, store usage.Store, listen string) {
	name := s.reportName(listen)
	tick := time.NewTicker(reportChanges)
	defer tick.Stop()
	var last usage.ServerReport
	for {
		now := usage.ServerReport{Name: name, Version: s.options.Version, ChannelUp: s.keys.reportsChanges(), Time: time.Now().UTC()}
		if now.ChannelUp != last.ChannelUp || now.Time.Sub(last.Time) >= reportEvery {
			last = now
			s.report(ctx, store, now)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// reportName returns the name under which the server reports: that of the machine with the address of
// the listener, which is the same after a restart. Without a listener, the process id distinguishes the servers
// of one machine apart.
func (s *server) reportName(listen string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	if s.inProcess {
		return host + " in process " + strconv.Itoa(os.Getpid())
	}
	return host + " " + listen
}

// report writes a report that the server is up.
func (s *server) report(ctx context.Context, store usage.Store, r usage.ServerReport) {
	ctx, cancel := context.WithTimeout(ctx, reportEvery)
	defer cancel()
	if err := store.ReportServer(ctx, r); err != nil && ctx.Err() == nil {
		s.log.Debug("the server cannot report that it is up", "error", clip(oneLine(err)))
	}
}

// flushed is called after each attempt to write, from one goroutine.
func (u *usageRecorder) flushed(rows int, err error) {
	u.metrics.written.Add(float64(rows))
	if err != nil {
		u.metrics.failed.Inc()
		if !u.down {
			u.log.Warn("usage cannot be written: it is kept in memory until it can be", "error", clip(oneLine(err)))
		}
		u.down = true
		return
	}
	u.metrics.last.SetToCurrentTime()
	if u.down {
		u.log.Info("usage is written again")
	}
	u.down = false
}
