package cache_test

import (
	"errors"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

// A lookup reports whether its record is stale, for any reason.
func TestCacheLookupStale(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.finds("")
		stale := func(want bool) {
			t.Helper()
			k, stale, err := f.LookupStale(f.Context(), f.known.Hash)
			if k == nil || stale != want || err != nil {
				t.Errorf("%v, stale %t, %v; want %t", k, stale, err, want)
			}
		}
		stale(false)
		f.store.Fail(errDown)
		stale(false) // fresh, whatever the store does
		time.Sleep(time.Minute)
		stale(true)
		f.store.Fail(nil)
		f.store.set(nil, true)
		stale(true) // late
		stale(true) // without a lookup, since the store hangs
		f.store.set(nil, false)
		time.Sleep(time.Second)
		stale(false)
		if k, stale, err := f.LookupStale(f.Context(), storetest.SecretOf("nobody").Hash()); k != nil || stale || !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("%v, %t, %v of an unknown hash", k, stale, err)
		}
	})
}
