package server

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"extauthz/keystore"
)

const (
	// Keys are counted when they change, but no sooner than countGap after the last count, and at least
	// every countEvery, since keys expire without a change.
	countGap   = 5 * time.Second
	countEvery = 5 * time.Minute

	// countRest is the pause after each 200 keys, for stores that read keys one by one, such as Redis.
	countRest = 100 * time.Millisecond
)

// A keyCount counts the keys that need attention. As a collector, it exports the last counts. It is safe
// for concurrent use.
type keyCount struct {
	log     *slog.Logger
	changed chan struct{}

	latest atomic.Pointer[keystore.Counts] // nil: not counted yet
	failed bool                            // the last count
}

func newKeyCount(log *slog.Logger) *keyCount {
	return &keyCount{log: log, changed: make(chan struct{}, 1)}
}

// recount requests a new count.
func (c *keyCount) recount() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// run counts the keys whenever they have changed, until ctx ends.
func (c *keyCount) run(ctx context.Context, keys keystore.Editor) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
		case <-time.After(countEvery):
		}
		c.count(ctx, keys)
		select {
		case <-ctx.Done():
			return
		case <-time.After(countGap):
		}
	}
}

func (c *keyCount) count(ctx context.Context, keys keystore.Editor) {
	counts, err := keystore.Count(ctx, keys, time.Now(), countRest)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		c.latest.Store(&counts)
	case !c.failed:
		c.log.Warn("the keys in report mode and those that expire soon cannot be counted", "error", clip(oneLine(err)))
	}
	c.failed = err != nil
}

var (
	reportModeKeys = prometheus.NewDesc("extauthz_keys_report_mode", "Keys whose ip_whitelist is in report mode, which refuses no request.", nil, nil)
	expiringKeys   = prometheus.NewDesc("extauthz_keys_expiring", "Keys that expire within the given time, excluding expired ones.", []string{"within"}, nil)
)

// Describe implements [prometheus.Collector].
func (c *keyCount) Describe(ch chan<- *prometheus.Desc) {
	ch <- reportModeKeys
	ch <- expiringKeys
}

// Collect implements [prometheus.Collector].
func (c *keyCount) Collect(ch chan<- prometheus.Metric) {
	counts := c.latest.Load()
	if counts == nil {
		return
	}
	show := func(d *prometheus.Desc, n int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	show(reportModeKeys, counts.Report)
	show(expiringKeys, counts.ExpiringWeek, "7d")
	show(expiringKeys, counts.ExpiringMonth, "30d")
}

// recounting is an Invalidator that also requests a new count of the keys.
type recounting struct {
	keystore.Invalidator
	count *keyCount
}

func (r recounting) Invalidate(h keystore.Hash) {
	r.Invalidator.Invalidate(h)
	r.count.recount()
}

func (r recounting) InvalidateAll() {
	r.Invalidator.InvalidateAll()
	r.count.recount()
}
