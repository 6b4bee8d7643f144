package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/cache"
)

// RunWatcher tests the contract of [keystore.Watcher]. open returns a new, empty store that is one, for
// each subtest.
func RunWatcher(t *testing.T, open func(t *testing.T) Backend) {
	t.Run("Watch", func(t *testing.T) { watchReports(t, open(t)) })
	t.Run("Cache", func(t *testing.T) { cacheFollows(t, open(t)) })
	t.Run("WatchPrevious", func(t *testing.T) { watchReportsPrevious(t, open(t)) })
	t.Run("CachePrevious", func(t *testing.T) { cacheFollowsRotation(t, open(t)) })
}

// cacheFollows: a reported change is visible to lookups. Otherwise a cache, which looks the key up as
// soon as the change is reported, would keep the old record for an hour.
func cacheFollows(t *testing.T, b Backend) {
	config := cache.DefaultConfig()
	config.TTL, config.NegativeTTL, config.LookupTimeout = time.Hour, time.Hour, 10*time.Second
	c, err := cache.New(b, config)
	must(t, err)
	t.Cleanup(c.Close)
	watch(t, b, c)

	ctx := t.Context()
	loses(t, c, version(0).Hash)
	must(t, b.Add(ctx, version(0)))
	finds(t, c, version(0))
	for i := 1; i <= 10; i++ {
		must(t, b.Update(ctx, version(0).ID, func(k *keystore.Key) error { *k = *version(i); return nil }))
		finds(t, c, version(i))
	}
	rotated := version(11)
	rotated.Hash = SecretOf("rotated").Hash()
	must(t, b.Put(ctx, []*keystore.Key{rotated}))
	loses(t, c, version(0).Hash)
	finds(t, c, rotated)
	must(t, b.Delete(ctx, rotated.ID))
	loses(t, c, rotated.Hash)
}

// A recorder records the reported changes.
type recorder struct {
	mu      sync.Mutex
	changes []keystore.Hash // the zero hash is InvalidateAll
}

func (r *recorder) InvalidateAll() { r.Invalidate(keystore.Hash{}) }

func (r *recorder) Invalidate(h keystore.Hash) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, h)
}

// since returns the changes after the first n.
func (r *recorder) since(n int) []keystore.Hash {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.changes[n:])
}

// watch starts the store's Watch and stops it when the test ends.
func watch(t *testing.T, b Backend, inv keystore.Invalidator) {
	t.Helper()
	w, ok := b.(keystore.Watcher)
	if !ok {
		t.Fatalf("%T is not a keystore.Watcher", b)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Watch(ctx, inv) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch ended with %v, want its ctx's error", err)
		}
	})
}

func watchReports(t *testing.T, b Backend) {
	var r recorder
	watch(t, b, &r)
	reported := func(n int, hashes ...keystore.Hash) {
		t.Helper()
		eventually(t, func() (bool, string) {
			got := r.since(n)
			for _, h := range hashes {
				if !slices.Contains(got, h) && !slices.Contains(got, keystore.Hash{}) {
					return false, fmt.Sprintf("reported %v, want %v", got, hashes)
				}
			}
			return true, ""
		})
	}
	reported(0, keystore.Hash{}) // everything, once it listens

	k, other := NewKey("key_a", "10.0.0.0/8"), NewKey("key_b")
	edit := func(do func() error, hashes ...keystore.Hash) {
		t.Helper()
		n := len(r.since(0))
		must(t, do())
		reported(n, hashes...)
	}
	ctx := t.Context()
	edit(func() error { return b.Add(ctx, k) }, k.Hash)
	edit(func() error { return b.Put(ctx, []*keystore.Key{other}) }, other.Hash)
	edit(func() error {
		return b.Update(ctx, k.ID, func(k *keystore.Key) error { k.Enabled = false; return nil })
	}, k.Hash)
	rotated := SecretOf("rotated").Hash()
	edit(func() error {
		return b.Update(ctx, k.ID, func(k *keystore.Key) error { k.Hash = rotated; return nil })
	}, k.Hash, rotated)
	moved := NewKey("key_b")
	moved.Hash = SecretOf("moved").Hash()
	edit(func() error { return b.Put(ctx, []*keystore.Key{moved}) }, other.Hash, moved.Hash)
	edit(func() error { return b.Delete(ctx, k.ID) }, rotated)
}
