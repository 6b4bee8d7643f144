package server

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"extauthz/backend"
	"extauthz/check"
	"extauthz/usage"
)

// A usageRecorder counts who uses which key from where. A nil one counts nothing.
type usageRecorder struct {
	*usage.Recorder
	store usage.Store

	log     *slog.Logger
	written prometheus.Counter
	failed  prometheus.Counter
	last    prometheus.Gauge
	down    bool // the last flush failed
}

// openUsage returns the recorder of usage, or nil if none is configured.
func (s *server) openUsage(ctx context.Context) (*usageRecorder, error) {
	c := s.cfg.Usage
	if !c.Record {
		return nil, nil //nolint:nilnil // nothing is recorded, which is no error
	}
	store, err := backend.OpenUsage(ctx, s.cfg)
	if err != nil {
		return nil, err
	}
	u := &usageRecorder{
		store: store, log: s.log,
		written: counter("extauthz_usage_rows_written_total", "Rows of usage that were written to the store."),
		failed:  counter("extauthz_usage_write_failures_total", "Attempts to write usage to the store that failed. What was not written is kept for the next one."),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "extauthz_usage_last_write_success_timestamp_seconds", Help: "Unix time of the last successful write of usage to the store.",
		}),
	}
	u.Recorder = usage.NewRecorder(usage.RecorderConfig{Store: store, Flush: c.Flush, AddressesPerKey: c.AddressesPerKey, OnFlush: u.flushed})
	s.metrics.registry.MustRegister(u.written, u.failed, u.last, prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "extauthz_usage_dropped_total", Help: "Decisions whose client address was not recorded, because the buffer or the key's share of it was full.",
	}, func() float64 { return float64(u.Stats().Dropped) }))
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
		WouldRefuse: d.WouldRefuse, Previous: d.PreviousSecret, Time: time.Now(),
	})
}

// reportEvery is how often the server reports that it is up, where usage is kept.
const reportEvery = 20 * time.Second

// start writes what was counted now and then, until stop is called; and then once more. It reports
// with report that the server is up.
func (u *usageRecorder) start(ctx context.Context, report func() usage.ServerReport) (stop func()) {
	if u == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		var reports sync.WaitGroup
		reports.Go(func() { u.report(ctx, report) })
		u.Run(ctx)
		reports.Wait()
		if err := u.store.Close(); err != nil {
			u.log.Warn("closing the store of usage failed", "error", oneLine(err))
		}
	}()
	return func() { cancel(); <-done }
}

// report reports that the server is up, until ctx ends.
func (u *usageRecorder) report(ctx context.Context, report func() usage.ServerReport) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		call, cancel := context.WithTimeout(ctx, reportEvery)
		err := u.store.ReportServer(call, report())
		cancel()
		if err != nil && ctx.Err() == nil {
			u.log.Debug("the server cannot report that it is up", "error", clip(oneLine(err)))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// flushed is called after each attempt to write, from one goroutine.
func (u *usageRecorder) flushed(rows int, err error) {
	u.written.Add(float64(rows))
	if err != nil {
		u.failed.Inc()
		if !u.down {
			u.log.Warn("usage cannot be written: it is kept in memory until it can be", "error", clip(oneLine(err)))
		}
		u.down = true
		return
	}
	u.last.SetToCurrentTime()
	if u.down {
		u.log.Info("usage is written again")
	}
	u.down = false
}

// report says that the server is up. Its name is that of the machine, with the listener's address.
func (s *server) report() usage.ServerReport {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return usage.ServerReport{
		Name: host + " " + s.cfg.Listen.String() + " " + strconv.Itoa(os.Getpid()), Version: s.options.Version, ChannelUp: s.keys.reportsChanges(), Time: time.Now().UTC(),
	}
}
