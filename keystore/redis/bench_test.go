package redis

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/redisclient/redistest"
)

func BenchmarkLookup(b *testing.B) {
	s := open(b, Options{URL: redistest.Start(b).URL()})
	k := storetest.NewKey("key_a", "10.0.0.0/8", "192.0.2.7", "2001:db8::/32")
	must(b, s.Add(b.Context(), k))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Lookup(b.Context(), k.Hash); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkPut puts 100,000 keys, or EXTAUTHZ_BENCH_KEYS, as an import does.
func BenchmarkPut(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv("EXTAUTHZ_BENCH_KEYS"))
	if err != nil {
		n = 100_000
	}
	r := redistest.Start(b, "--appendfsync", "everysec")
	s := open(b, Options{URL: r.URL()})
	for b.Loop() {
		r.CLI("FLUSHALL")
		batch := make([]*keystore.Key, 0, 1000)
		for i := range n {
			batch = append(batch, storetest.NewKey(fmt.Sprintf("key_%08d", i), "10.0.0.0/8", "192.0.2.7"))
			if len(batch) == cap(batch) || i == n-1 {
				must(b, s.Put(b.Context(), batch))
				batch = batch[:0]
			}
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
}
