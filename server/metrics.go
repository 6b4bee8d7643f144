package server

import (
	"errors"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/envoy"
	"extauthz/traceparent"
)

// metrics are the metrics of the server. The counters of decisions are resolved in advance, so that
// counting a decision costs a few atomic additions.
type metrics struct {
	registry *prometheus.Registry

	decisions   []prometheus.Counter // by code
	letThrough  []prometheus.Counter // by code
	duration    prometheus.Histogram // an ExemplarObserver too
	wouldRefuse prometheus.Counter
	panics      prometheus.Counter
	noAddress   prometheus.Counter
	malformed   prometheus.Counter
	tooLarge    prometheus.Counter
	keys        reloadMetrics
	dryRun      prometheus.Gauge
	config      reloadMetrics

	owners ownerCount

	invalidRoutes prometheus.Counter
	limiterFailed prometheus.Counter
}

func newMetrics(o Options) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "extauthz_decisions_total", Help: "Decisions, by code.",
	}, []string{"code"})
	letThrough := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "extauthz_dry_run_let_through_total", Help: "Checks that the dry run let through although they would have been refused, by code.",
	}, []string{"code"})
	for _, c := range authz.Codes() {
		m.decisions = append(m.decisions, decisions.WithLabelValues(c.String()))
		m.letThrough = append(m.letThrough, letThrough.WithLabelValues(c.String()))
	}
	m.duration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "extauthz_decision_duration_seconds",
		Help:    "Time from reading a check request to its decision, without the transport.",
		Buckets: []float64{1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 1e-1, 1},

		// For scrapers that accept native histograms: buckets 10 % apart.
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	})
	m.wouldRefuse = counter("extauthz_would_refuse_total", "Checks of keys in report mode that an enforced ip_whitelist would have refused as FORBIDDEN.")
	m.panics = counter("extauthz_panics_total", "Checks that were refused because deciding on them, or recording them, panicked.")
	m.noAddress = counter("extauthz_client_address_failures_total", "Checks whose client address could not be determined.")
	unread := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "extauthz_unreadable_checks_total", Help: "Check requests that were refused because they could not be read, by reason.",
	}, []string{"reason"})
	m.malformed, m.tooLarge = unread.WithLabelValues("malformed"), unread.WithLabelValues("too_large")
	m.keys = newReloadMetrics(m.registry, "extauthz", "the keys")
	m.config = newReloadMetrics(m.registry, "extauthz_config", "the configuration")
	m.dryRun = gauge("extauthz_dry_run", "1 if every request is let through, whatever the decision.")
	m.invalidRoutes = counter("extauthz_invalid_route_settings_total", "Distinct permissions and ratelimits of routes that could not be parsed, so that their requests are refused.")
	m.limiterFailed = counter("extauthz_ratelimit_failures_total", "Checks for which the rate limiter did not answer.")
	lost := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "extauthz_log_lines_dropped_total", Help: "Log lines that were lost because writing them failed or took too long.",
	}, func() float64 { return float64(o.Log.Dropped()) })
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "extauthz_build_info", Help: "Always 1; the labels identify the build.",
		ConstLabels: prometheus.Labels{"version": o.Version, "revision": o.Revision, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
	m.registry.MustRegister(decisions, letThrough, m.wouldRefuse, m.duration, &m.owners, m.panics, m.noAddress, unread,
		m.dryRun, m.invalidRoutes, m.limiterFailed, lost, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

// observe counts one check. The trace of its parent is the exemplar of its duration, if it is
// recorded.
func (m *metrics) observe(o *check.Observation, parent traceparent.Parent) {
	m.decisions[o.Decision.Code].Inc()
	m.owners.observe(&o.Decision)
	if o.LetThrough {
		m.letThrough[o.Decision.Code].Inc()
	}
	if o.Decision.WouldRefuse {
		m.wouldRefuse.Inc()
	}
	if seconds := o.Duration.Seconds(); parent.Sampled {
		m.duration.(prometheus.ExemplarObserver).ObserveWithExemplar(seconds, prometheus.Labels{"trace_id": parent.TraceID})
	} else {
		m.duration.Observe(seconds)
	}
	if o.AddrErr != nil {
		m.noAddress.Inc()
	}
	if o.Panicked {
		m.panics.Inc()
	}
	switch {
	case o.Err == nil:
	case errors.Is(o.Err, envoy.ErrMalformed):
		m.malformed.Inc()
	case errors.Is(o.Err, envoy.ErrTooLarge):
		m.tooLarge.Inc()
	}
}

// reloadMetrics are the metrics of something that is reloaded.
type reloadMetrics struct {
	success, failure prometheus.Counter
	last             prometheus.Gauge // the time of the last success
	ok               prometheus.Gauge // whether the last one succeeded
}

func newReloadMetrics(registry *prometheus.Registry, prefix, what string) reloadMetrics {
	reloads := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: prefix + "_reloads_total", Help: "Reloads of " + what + ", by result.",
	}, []string{"result"})
	m := reloadMetrics{
		success: reloads.WithLabelValues("success"), failure: reloads.WithLabelValues("failure"),
		last: gauge(prefix+"_last_reload_success_timestamp_seconds", "Unix time of the last successful load of "+what+"."),
		ok:   gauge(prefix+"_last_reload_successful", "1 if the last load of "+what+" succeeded; 0 while an earlier one is in use."),
	}
	registry.MustRegister(reloads, m.last, m.ok)
	return m
}

// loaded records a successful load.
func (m *reloadMetrics) loaded() {
	m.ok.Set(1)
	m.last.SetToCurrentTime()
}

// reload counts one reload.
func (m *reloadMetrics) reload(err error) {
	if err != nil {
		m.failure.Inc()
		m.ok.Set(0)
		return
	}
	m.success.Inc()
	m.loaded()
}

// handler serves the metrics in the format that the scraper accepts.
func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, EnableOpenMetrics: true})
}
