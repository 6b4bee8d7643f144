package cache_test

import (
	"errors"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

// LookupMemory answers as LookupStale does if that needs no lookup, and never calls the store.
func TestCacheLookupMemory(t *testing.T) {
	inBubble(t, func(f *fixture) {
		known, unknown := f.known.Hash, storetest.SecretOf("nobody").Hash()
		want := func(what string, h keystore.Hash, wantStale bool, wantErr error) {
			t.Helper()
			lookups := f.Stats().Lookups
			k, stale, err := f.LookupMemory(h)
			if (k != nil) != (wantErr == nil) || stale != wantStale || !errors.Is(err, wantErr) {
				t.Errorf("%s: %v, stale %t, %v; want stale %t, %v", what, k, stale, err, wantStale, wantErr)
			}
			if f.Stats().Lookups != lookups {
				t.Errorf("%s: the store was asked", what)
			}
		}
		want("never looked up", known, false, keystore.ErrNotInMemory)
		want("never looked up", unknown, false, keystore.ErrNotInMemory)
		f.finds("")
		_, _ = f.Lookup(f.Context(), unknown)
		want("fresh", known, false, nil)
		want("known not to be there", unknown, false, keystore.ErrNotFound)
		f.Invalidate(known)
		want("changed", known, false, keystore.ErrNotInMemory)
		f.finds("")
		f.InvalidateAll()
		want("possibly changed", known, false, keystore.ErrNotInMemory)
		want("possibly added", unknown, false, keystore.ErrNotInMemory)
		f.finds("")
		time.Sleep(time.Minute)
		want("no longer fresh", known, false, keystore.ErrNotInMemory)
		f.store.set(nil, true)
		_, _, _ = f.LookupStale(f.Context(), known)
		want("the store hangs", known, true, nil)
		f.store.set(nil, false)
	})
}
