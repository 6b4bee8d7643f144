package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

func benchKeys(from, n int) []*keystore.Key {
	keys := make([]*keystore.Key, n)
	for i := range keys {
		j := from + i
		keys[i] = storetest.NewKey(fmt.Sprintf("key_%08d", j), fmt.Sprintf("10.%d.%d.0/24", j/256%256, j%256), "192.0.2.7", "2001:db8::/32")
		keys[i].Name, keys[i].ExternalID = "a key", "acme"
	}
	return keys
}

// sink ignores changes.
type sink struct{}

func (sink) Invalidate(keystore.Hash) {}
func (sink) InvalidateAll()           {}

// BenchmarkPut writes 100,000 keys per iteration into an empty table while one replica listens, or
// 1,000,000 if EXTAUTHZ_BENCH_MILLION is set.
func BenchmarkPut(b *testing.B) {
	n := 100_000
	if os.Getenv("EXTAUTHZ_BENCH_MILLION") != "" {
		n = 1_000_000
	}
	b.Run(fmt.Sprint(n), func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			s := openFresh(b)
			ctx, cancel := context.WithCancel(b.Context())
			go s.Watch(ctx, sink{})
			b.StartTimer()
			for from := 0; from < n; from += putSize {
				must(b, s.Put(b.Context(), benchKeys(from, min(putSize, n-from))))
			}
			cancel()
		}
		b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
	})
}

// BenchmarkPutAgain writes 100,000 keys that are already there.
func BenchmarkPutAgain(b *testing.B) {
	const n = 100_000
	s, keys := openFresh(b), benchKeys(0, n)
	must(b, s.Put(b.Context(), keys))
	for b.Loop() {
		must(b, s.Put(b.Context(), keys))
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
}

func BenchmarkLookup(b *testing.B) {
	const n = 100_000
	s, keys := openFresh(b), benchKeys(0, n)
	must(b, s.Put(b.Context(), keys))
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := s.Lookup(b.Context(), keys[i*7919%n].Hash); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unknown", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Lookup(b.Context(), keystore.Hash{1}); !errors.Is(err, keystore.ErrNotFound) {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if _, err := s.Lookup(b.Context(), keys[i*7919%n].Hash); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
