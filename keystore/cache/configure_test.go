package cache_test

import (
	"fmt"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/cache"
	"extauthz/keystore/storetest"
)

// Sizes and times can change while the cache is used. It keeps the records that fit.
func TestCacheConfigure(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.finds("")
		f.rename("new")
		config := cache.DefaultConfig()
		config.TTL = 10 * time.Minute
		if err := f.Configure(config); err != nil {
			f.Fatal(err)
		}
		time.Sleep(7 * time.Minute)
		f.finds("")
		f.asked(1)
		config.TTL, config.MaxStale = time.Minute, 8*time.Minute
		if err := f.Configure(config); err != nil {
			f.Fatal(err)
		}
		f.store.hang = true
		f.finds("") // stale
		time.Sleep(2 * time.Minute)
		if _, err := f.Lookup(f.Context(), f.known.Hash); err == nil {
			f.Error("a record serves beyond the new max_stale")
		}
		if err := f.Configure(cache.Config{}); err == nil {
			f.Error("nothing was accepted as sizes and times")
		}
	})
}

// A smaller cache keeps the records that were used last.
func TestCacheConfigureSize(t *testing.T) {
	inBubble(t, func(f *fixture) {
		var hashes []keystore.Hash
		for i := range 20 {
			k := storetest.NewKey(fmt.Sprintf("key_%d", i), "10.0.0.0/8")
			if err := f.store.Add(f.Context(), k); err != nil {
				f.Fatal(err)
			}
			hashes = append(hashes, k.Hash)
		}
		look := func(of []keystore.Hash) {
			f.Helper()
			for _, h := range of {
				if _, err := f.Lookup(f.Context(), h); err != nil {
					f.Fatal(err)
				}
			}
		}
		look(hashes)
		config := cache.DefaultConfig()
		config.Size = 5
		if err := f.Configure(config); err != nil {
			f.Fatal(err)
		}
		if n := f.Stats().Records; n != 5 {
			f.Errorf("%d records, want 5", n)
		}
		look(hashes[15:])
		f.asked(20)
		look(hashes[:1])
		f.asked(21)
		config.Size = 20
		if err := f.Configure(config); err != nil {
			f.Fatal(err)
		}
		look(hashes[16:])
		f.asked(21)
	})
}
