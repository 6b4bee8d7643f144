package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/cache"
	"extauthz/keystore/storetest"
	"extauthz/polltest"
	"extauthz/redisclient/redistest"
)

// A replica has the parts of one server: a store, the cache in front of it, and its Watch.
type replica struct {
	*Store
	cache *cache.Cache

	mu       sync.Mutex
	ups      int // how often the channel came up
	up       bool
	warnings []string
}

func newReplica(t *testing.T, url string) *replica {
	t.Helper()
	r := &replica{}
	r.Store = open(t, Options{
		URL: url,
		OnChannel: func(up bool, err error) {
			if t.Context().Err() == nil {
				t.Logf("channel up: %v, %v", up, err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.up = up; up {
				r.ups++
			}
		},
		OnWarning: func(err error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.warnings = append(r.warnings, err.Error())
		},
	})
	config := cache.DefaultConfig()
	config.NegativeTTL, config.LookupTimeout = 0, 2*time.Second
	var err error
	if r.cache, err = cache.New(r.Store, config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.cache.Close)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // it ends before the store closes
	var watching sync.WaitGroup
	watching.Go(func() { _ = r.Watch(ctx, r.cache) }) // its error is ctx's
	t.Cleanup(func() { cancel(); watching.Wait() })
	return r
}

func (r *replica) state() (up bool, ups int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.up, r.ups
}

// awaitUp waits until the channel has come up n times and is up.
func (r *replica) awaitUp(t *testing.T, n int) {
	t.Helper()
	polltest.Until(t, fmt.Sprintf("the channel is up for time %d", n), func() bool { up, ups := r.state(); return up && ups >= n })
}

func (r *replica) awaitDown(t *testing.T) {
	t.Helper()
	polltest.Until(t, "the channel is down", func() bool { up, _ := r.state(); return !up })
}

// awaitWarning waits until Watch has warned of something.
func (r *replica) awaitWarning(t *testing.T, text string) {
	t.Helper()
	polltest.Until(t, "there is a warning of "+text, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return strings.Contains(strings.Join(r.warnings, "\n"), text)
	})
}

func (r *replica) knows(t *testing.T, k *keystore.Key) {
	t.Helper()
	polltest.Until(t, k.ID+" is known", func() bool { got, err := r.cache.Lookup(t.Context(), k.Hash); return err == nil && got.ID == k.ID })
}

// refuses fails the test unless the key is unknown now.
func (r *replica) refuses(t *testing.T, k *keystore.Key) {
	t.Helper()
	if got, err := r.cache.Lookup(t.Context(), k.Hash); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("%s: %v, %v, want ErrNotFound", k.ID, got, err)
	}
}

// bridges checks that a known key keeps working while the store is unreachable, and that an unknown
// one is an error.
func (r *replica) bridges(t *testing.T, known *keystore.Key) {
	t.Helper()
	if _, err := r.cache.Lookup(t.Context(), known.Hash); err != nil {
		t.Errorf("a known key: %v", err)
	}
	if _, err := r.cache.Lookup(t.Context(), storetest.SecretOf("unknown").Hash()); err == nil || errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("an unknown key: %v, want an error other than ErrNotFound", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := r.Ready(ctx); err == nil {
		t.Error("ready without a store")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTwoReplicas(t *testing.T) {
	r := redistest.Start(t)
	a, b := newReplica(t, r.URL()), newReplica(t, r.URL())
	a.awaitUp(t, 1)
	b.awaitUp(t, 1)
	for name, revoke := range map[string]func(*keystore.Key){
		"through the other":     func(k *keystore.Key) { must(t, a.Delete(t.Context(), k.ID)) },
		"by redis-cli":          func(k *keystore.Key) { r.CLI("DEL", b.names.record(k.Hash)) },
		"by UNLINK":             func(k *keystore.Key) { r.CLI("UNLINK", b.names.record(k.Hash)) },
		"by a time to live":     func(k *keystore.Key) { r.CLI("PEXPIRE", b.names.record(k.Hash), "1") },
		"by RENAME":             func(k *keystore.Key) { r.CLI("RENAME", b.names.record(k.Hash), "elsewhere") },
		"by MOVE":               func(k *keystore.Key) { r.CLI("MOVE", b.names.record(k.Hash), "2") },
		"by FLUSHALL":           func(*keystore.Key) { r.CLI("FLUSHALL") },
		"by FLUSHDB":            func(*keystore.Key) { r.CLI("FLUSHDB") },
		"by FLUSHALL ASYNC":     func(*keystore.Key) { r.CLI("FLUSHALL", "ASYNC") },
		"by SWAPDB":             func(*keystore.Key) { r.CLI("SWAPDB", "0", "1") },
		"by SWAPDB in a script": func(*keystore.Key) { r.CLI("EVAL", "return redis.call('SWAPDB', 0, 1)", "0") },
	} {
		r.CLI("FLUSHALL")
		k := storetest.RotatedKey("key_a")
		old := &keystore.Key{ID: k.ID, Hash: k.Previous.Hash}
		must(t, a.Put(t.Context(), []*keystore.Key{k}))
		b.knows(t, k)
		b.knows(t, old)
		revoke(k)
		start := time.Now()
		for _, h := range []keystore.Hash{old.Hash, k.Hash} {
			polltest.Until(t, name, func() bool {
				_, err := b.cache.Lookup(t.Context(), h)
				return errors.Is(err, keystore.ErrNotFound)
			})
		}
		t.Logf("%s: refused after %s", name, time.Since(start))
	}
	if _, ups := b.state(); ups != 1 {
		t.Errorf("the channel came up %d times, want once", ups)
	}
}

func TestDownAtStart(t *testing.T) {
	r := redistest.Start(t)
	r.Kill()
	b := newReplica(t, r.URL())
	ctx := within(t)
	if err := b.Ready(ctx); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("ready: %v, want that the connection is refused", err)
	}
	r.Restart()
	polltest.Until(t, "it is ready", func() bool { return b.Ready(ctx) == nil })
	b.awaitUp(t, 1)
}

func TestServerFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct{ begin, end func(*redistest.Server) }{
		"kill -9": {(*redistest.Server).Kill, (*redistest.Server).Restart},
		"SIGSTOP": {(*redistest.Server).Pause, (*redistest.Server).Resume},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Start(t)
			b := newReplica(t, r.URL())
			b.awaitUp(t, 1)
			k, other := storetest.NewKey("key_a"), storetest.NewKey("key_b")
			must(t, b.Put(t.Context(), []*keystore.Key{k, other}))
			b.knows(t, k)
			fault.begin(r)
			b.awaitDown(t)
			b.bridges(t, k)
			fault.end(r)
			b.awaitUp(t, 2)
			b.knows(t, other)
			b.knows(t, k)
			polltest.Until(t, "it is ready", func() bool { return b.Ready(t.Context()) == nil })
		})
	}
}

func TestLookupEndsInTime(t *testing.T) {
	r := redistest.Start(t)
	s := open(t, Options{URL: r.URL()})
	must(t, s.Ready(within(t)))
	r.Pause()
	defer r.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { _, err := s.Lookup(ctx, anyHash); done <- err }()
	select {
	case err := <-done:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want that the deadline passed", err)
		}
	case <-time.After(polltest.Patience):
		t.Error("the lookup hangs")
	}
}

func TestTrackingKilled(t *testing.T) {
	r := redistest.Start(t)
	b := newReplica(t, r.URL())
	b.awaitUp(t, 1)
	k := storetest.NewKey("key_a")
	must(t, b.Add(t.Context(), k))
	b.knows(t, k)
	r.CLI("CLIENT", "KILL", "TYPE", "normal")
	b.awaitUp(t, 2)
	b.knows(t, k)
	r.CLI("DEL", b.names.record(k.Hash))
	polltest.Until(t, "it is refused", func() bool {
		_, err := b.cache.Lookup(t.Context(), k.Hash)
		return errors.Is(err, keystore.ErrNotFound)
	})
}

// A key that is revoked while the network is cut is refused as soon as the network is back.
func TestCut(t *testing.T) {
	t.Parallel()
	for name, silent := range map[string]bool{"closed": false, "silent": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Start(t)
			p := redistest.StartProxy(t, r.Addr())
			b := newReplica(t, "redis://"+p.Addr())
			b.awaitUp(t, 1)
			k, other := storetest.NewKey("key_a"), storetest.NewKey("key_b")
			must(t, b.Put(t.Context(), []*keystore.Key{k, other}))
			b.knows(t, k)
			b.knows(t, other)
			p.Cut(silent)
			r.CLI("DEL", b.names.record(k.Hash))
			b.awaitDown(t)
			b.bridges(t, other)
			p.Mend()
			b.awaitUp(t, 2)
			b.refuses(t, k)
			b.knows(t, other)
		})
	}
}

func TestFailover(t *testing.T) {
	t.Parallel()
	r := redistest.StartSentinels(t)
	b := newReplica(t, r.URL())
	b.awaitUp(t, 1)
	k := storetest.NewKey("key_a")
	must(t, b.Add(t.Context(), k))
	b.knows(t, k)
	polltest.Until(t, "the replica has it", func() bool { return r.Replica.CLI("EXISTS", b.names.record(k.Hash)) == "1" })
	r.Master.Kill()
	b.awaitDown(t)
	b.bridges(t, k)
	b.awaitUp(t, 2)
	polltest.Until(t, "the new master takes writes", func() bool { return b.Delete(t.Context(), k.ID) == nil })
	polltest.Until(t, "it is refused", func() bool {
		_, err := b.cache.Lookup(t.Context(), k.Hash)
		return errors.Is(err, keystore.ErrNotFound)
	})
}

func TestSlotMoves(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	b := newReplica(t, c.URL())
	b.awaitUp(t, 1)
	k := storetest.NewKey("key_a")
	must(t, b.Add(t.Context(), k))
	b.knows(t, k)
	owner, other := c.Owner(b.names.ids)
	c.MoveSlot(b.names.ids, owner, other)
	b.awaitUp(t, 2)
	b.knows(t, k)
	other.CLI("DEL", b.names.record(k.Hash))
	polltest.Until(t, "it is refused", func() bool {
		_, err := b.cache.Lookup(t.Context(), k.Hash)
		return errors.Is(err, keystore.ErrNotFound)
	})
}
