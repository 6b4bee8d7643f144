package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"extauthz/keystore/cache"
)

// storeMetrics are the metrics that a remote store reports.
type storeMetrics struct {
	channel prometheus.Gauge
	broken  prometheus.Counter
}

func newStoreMetrics() *storeMetrics {
	return &storeMetrics{
		channel: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "extauthz_store_channel_up",
			Help: "1 while the store reports changes, so that they are live at once; 0 while they may take as long as cache.ttl.",
		}),
		broken: counter("extauthz_store_broken_records_total", "Look-ups in the store that found a record which cannot be read whole, so that its key is refused."),
	}
}

// addStore registers the metrics of the store: the number of keys if they are in memory, or the state of
// a remote store.
func (m *metrics) addStore(k *keys, r *storeMetrics) {
	m.registry.MustRegister(cacheCollector{k.cacheStats})
	if k.files == nil {
		m.registry.MustRegister(r.channel, r.broken)
		return
	}
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "extauthz_keys", Help: "Loaded keys.",
	}, func() float64 { return float64(k.files.Len()) }))
}

// A cacheCollector exports the metrics of the cache. All are zero for a store without a cache.
type cacheCollector struct {
	stats func() cache.Stats
}

// A cacheMetric is one metric of the cache.
type cacheMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(cache.Stats) float64
	label []string
}

var (
	cacheLookups = prometheus.NewDesc("extauthz_cache_lookups_total", "Look-ups, by how the cache answered them: hit, negative_hit, stale (the store was unavailable), or miss (the store was asked).", []string{"result"}, nil)

	oldestStale = prometheus.NewDesc("extauthz_cache_oldest_stale_seconds", "Age of the oldest stale record that answered in the last minute: how long ago the store confirmed it.", nil, nil)

	cacheMetrics = []cacheMetric{
		{cacheLookups, prometheus.CounterValue, func(s cache.Stats) float64 { return float64(s.Hits) }, []string{"hit"}},
		{cacheLookups, prometheus.CounterValue, func(s cache.Stats) float64 { return float64(s.NegativeHits) }, []string{"negative_hit"}},
		{cacheLookups, prometheus.CounterValue, func(s cache.Stats) float64 { return float64(s.Stale) }, []string{"stale"}},
		{cacheLookups, prometheus.CounterValue, func(s cache.Stats) float64 { return float64(s.Misses) }, []string{"miss"}},
		cacheCounter("store_lookups", "Look-ups that the cache made in the store.", func(s cache.Stats) uint64 { return s.Lookups }),
		cacheCounter("store_errors", "Look-ups that the store did not answer.", func(s cache.Stats) uint64 { return s.Errors }),
		cacheCounter("store_busy", "Look-ups that were not made because too many were in flight.", func(s cache.Stats) uint64 { return s.Busy }),
		cacheCounter("refreshes", "Look-ups in the background, for which no request waited.", func(s cache.Stats) uint64 { return s.Refreshes }),
		cacheCounter("invalidations", "Notifications that a record has changed or may have changed.", func(s cache.Stats) uint64 { return s.Invalidations }),
		cacheGauge("in_flight", "Look-ups in flight in the store.", func(s cache.Stats) int { return s.InFlight }),
		{oldestStale, prometheus.GaugeValue, func(s cache.Stats) float64 { return s.OldestStale.Seconds() }, nil},
		cacheGauge("records", "Cached records.", func(s cache.Stats) int { return s.Records }),
		cacheGauge("negatives", "Cached hashes that belong to no key.", func(s cache.Stats) int { return s.Negatives }),
		cacheGauge("store_outage", "1 while the store cannot be reached.", func(s cache.Stats) int {
			if s.StoreOutage {
				return 1
			}
			return 0
		}),
	}
)

func cacheCounter(name, help string, value func(cache.Stats) uint64) cacheMetric {
	desc := prometheus.NewDesc("extauthz_cache_"+name+"_total", help, nil, nil)
	return cacheMetric{desc, prometheus.CounterValue, func(s cache.Stats) float64 { return float64(value(s)) }, nil}
}

func cacheGauge(name, help string, value func(cache.Stats) int) cacheMetric {
	desc := prometheus.NewDesc("extauthz_cache_"+name, help, nil, nil)
	return cacheMetric{desc, prometheus.GaugeValue, func(s cache.Stats) float64 { return float64(value(s)) }, nil}
}

// Describe implements [prometheus.Collector].
func (c cacheCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements [prometheus.Collector].
func (c cacheCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.stats()
	for _, m := range cacheMetrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(stats), m.label...)
	}
}
