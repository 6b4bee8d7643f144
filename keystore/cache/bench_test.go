package cache_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"extauthz/keystore"
	"extauthz/keystore/cache"
	"extauthz/keystore/storetest"
)

// warmCache returns a cache that holds n keys, and their hashes.
func warmCache(tb testing.TB, n int) (*cache.Cache, []keystore.Hash) {
	tb.Helper()
	m := storetest.NewMemory()
	c, err := cache.New(m, cache.DefaultConfig())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	hashes := make([]keystore.Hash, n)
	for i := range hashes {
		k := storetest.NewKey(fmt.Sprintf("key_%d", i), "10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32")
		hashes[i] = k.Hash
		if err := m.Add(tb.Context(), k); err != nil {
			tb.Fatal(err)
		}
		if _, err := c.Lookup(tb.Context(), k.Hash); err != nil {
			tb.Fatal(err)
		}
	}
	return c, hashes
}

func TestCacheHitAllocatesNothing(t *testing.T) {
	c, hashes := warmCache(t, 1)
	if n := testing.AllocsPerRun(100, func() { c.Lookup(t.Context(), hashes[0]) }); n != 0 {
		t.Errorf("%v allocations a hit, want none", n)
	}
}

func BenchmarkCacheHit(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		c, hashes := warmCache(b, n)
		ctx := b.Context()
		b.Run(fmt.Sprintf("keys=%d/serial", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				c.Lookup(ctx, hashes[i%n])
			}
		})
		b.Run(fmt.Sprintf("keys=%d/parallel", n), func(b *testing.B) {
			var workers atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := int(workers.Add(1)) * 4999; pb.Next(); i++ {
					c.Lookup(ctx, hashes[i%n])
				}
			})
		})
	}
}
