package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"extauthz/keystore/cache"
)

// storeMetrics are the figures that a store across the network tells of by itself.
type storeMetrics struct {
	channel prometheus.Gauge
	broken  prometheus.Counter
}

func newStoreMetrics() *storeMetrics {
	return &storeMetrics{
		channel: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "extauthz_store_channel_up",
			Help: "1 while the store tells of changes, so that they are live at once; 0 while they may take the cache's ttl.",
		}),
		broken: counter("extauthz_store_broken_records_total", "Look-ups in the store that found a record which cannot be read whole, so that its key is refused."),
	}
}

// addStore registers the figures of the store: of its keys if they are in memory, and of its
// server if it is across the network.
func (m *metrics) addStore(k *keys, r *storeMetrics) {
	m.registry.MustRegister(cacheCollector{k.cacheStats})
	if k.files == nil {
		m.registry.MustRegister(r.channel, r.broken)
		return
	}
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "extauthz_keys", Help: "Keys that are loaded.",
	}, func() float64 { return float64(k.files.Len()) }))
}

// A cacheCollector shows the figures of the cache; all are zero where the store needs none.
type cacheCollector struct {
	stats func() cache.Stats
}

// A cacheMetric is one figure of the cache.
type cacheMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(cache.Stats) float64
	label []string
}

var (
	cacheLookups = prometheus.NewDesc("extauthz_cache_lookups_total", "Look-ups that the cache answered, by how: hit, negative_hit, stale (the store was out of reach), or miss (the store was asked).", []string{"result"}, nil)

	oldestStale = prometheus.NewDesc("extauthz_cache_oldest_stale_seconds", "Age of the oldest stale record that answered in the last minute: how long ago the store confirmed it.", nil, nil)

	cacheMetrics = []cacheMetric{
		{cacheLookups, prometheus.CounterValue, func(s cache.Stats) float64 { return float64(s.Hits) }, []string{"hit"}},
		{cacheLookups, prometheus.CounterValue, func(s cache.Stats) float64 { return float64(s.NegativeHits) }, []string{"negative_hit"}},
		{cacheLookups, prometheus.CounterValue, func(s cache.Stats) float64 { return float64(s.Stale) }, []string{"stale"}},
		{cacheLookups, prometheus.CounterValue, func(s cache.Stats) float64 { return float64(s.Misses) }, []string{"miss"}},
		cacheCounter("store_lookups", "Look-ups that the cache made in the store.", func(s cache.Stats) uint64 { return s.Lookups }),
		cacheCounter("store_errors", "Look-ups that the store did not answer.", func(s cache.Stats) uint64 { return s.Errors }),
		cacheCounter("store_busy", "Look-ups that were not made, as too many were under way.", func(s cache.Stats) uint64 { return s.Busy }),
		cacheCounter("refreshes", "Look-ups ahead of time, which nobody waited for.", func(s cache.Stats) uint64 { return s.Refreshes }),
		cacheCounter("invalidations", "Times that the store said that a record had changed, or might have.", func(s cache.Stats) uint64 { return s.Invalidations }),
		cacheGauge("in_flight", "Look-ups under way in the store.", func(s cache.Stats) int { return s.InFlight }),
		{oldestStale, prometheus.GaugeValue, func(s cache.Stats) float64 { return s.OldestStale.Seconds() }, nil},
		cacheGauge("records", "Records in the cache.", func(s cache.Stats) int { return s.Records }),
		cacheGauge("negatives", "Hashes in the cache that no key has.", func(s cache.Stats) int { return s.Negatives }),
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
