package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/cache"
	"extauthz/keystore/storetest"
)

func TestCacheConformance(t *testing.T) {
	for name, size := range map[string]int{"few records": 4, "many records": 2048} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Backend {
				m := storetest.NewMemory()
				config := cache.DefaultConfig()
				config.Size, config.TTL, config.LookupTimeout = size, time.Hour, 10*time.Second
				c, err := cache.New(m, config)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- m.Watch(ctx, c) }()
				t.Cleanup(func() { cancel(); <-ended; c.Close() })
				return struct {
					keystore.Store
					keystore.Editor
				}{c, m}
			})
		})
	}
}

func TestCacheConfigValidate(t *testing.T) {
	if err := cache.DefaultConfig().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	_, err := cache.New(storetest.NewMemory(), cache.Config{MaxStale: -1, NegativeTTL: -1})
	want := `size: 0: write at least 1
ttl: 0s: write a time above 0s, such as 1m
max_stale: -1ns: write 0s for never, or a time such as 10m
negative_size: 0: write at least 1
negative_ttl: -1ns: write 0s for never, or a time such as 5s
max_in_flight: 0: write at least 1
lookup_timeout: 0s: write a time above 0s, such as 150ms`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// A gate is a store whose lookups can be counted, held up and made to hang.
type gate struct {
	*storetest.Memory
	mu    sync.Mutex
	asked int
	order []keystore.Hash // the hashes that were looked up
	delay time.Duration
	hold  chan struct{} // not nil: the answer, already fetched, waits for it to be closed
	hang  bool          // no answer until ctx ends
}

func (g *gate) Lookup(ctx context.Context, h keystore.Hash) (*keystore.Key, error) {
	g.mu.Lock()
	g.asked++
	g.order = append(g.order, h)
	hold, hang, delay := g.hold, g.hang, g.delay
	g.mu.Unlock()
	time.Sleep(delay)
	if hang {
		<-ctx.Done()
		return nil, fmt.Errorf("querying: %w", ctx.Err())
	}
	k, err := g.Memory.Lookup(ctx, h)
	if hold != nil {
		<-hold
	}
	return k, err
}

func (g *gate) set(hold chan struct{}, hang bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold, g.hang = hold, hang
}

// A fixture is a cache over a gate, in a synctest bubble.
type fixture struct {
	*testing.T
	*cache.Cache
	store *gate
	log   *bytes.Buffer
	known *keystore.Key
}

var errDown = errors.New("connection refused")

// inBubble runs test with a cache with a TTL of a minute and a MaxStale of ten minutes, whose store holds one
// key.
func inBubble(t *testing.T, test func(f *fixture), options ...func(*cache.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{T: t, log: new(bytes.Buffer), known: storetest.NewKey("key_a", "10.0.0.0/8")}
		f.store = &gate{Memory: storetest.NewMemory(f.known)}
		config := cache.DefaultConfig()
		config.Size, config.NegativeSize = 100, 50
		config.Log = slog.New(slog.NewTextHandler(f.log, nil))
		for _, o := range options {
			o(&config)
		}
		c, err := cache.New(f.store, config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		f.Cache = c
		test(f)
	})
}

func (f *fixture) finds(name string) {
	f.Helper()
	k, err := f.Lookup(f.Context(), f.known.Hash)
	if err != nil || k.Name != name {
		f.Fatalf("found %+v, error %v; want the key with name %q", k, err, name)
	}
}

func (f *fixture) fails(want error) {
	f.Helper()
	if k, err := f.Lookup(f.Context(), f.known.Hash); k != nil || !errors.Is(err, want) {
		f.Fatalf("found %+v, error %v; want error %v", k, err, want)
	}
}

func (f *fixture) asked(want int) {
	f.Helper()
	synctest.Wait()
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	if f.store.asked != want {
		f.Fatalf("the store was asked %d times, want %d", f.store.asked, want)
	}
}

// rename changes the key in the store without invalidating it in the cache.
func (f *fixture) rename(name string) {
	f.Helper()
	err := f.store.Update(f.Context(), f.known.ID, func(k *keystore.Key) error { k.Name = name; return nil })
	if err != nil {
		f.Fatal(err)
	}
}

func TestCacheTTL(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.finds("")
		f.rename("new")
		time.Sleep(47 * time.Second) // before the last fifth of the minute
		f.finds("")
		f.asked(1)
		time.Sleep(13 * time.Second) // exactly a minute
		f.finds("new")
		f.asked(2)
	})
}

func TestCacheRefresh(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.finds("")
		f.rename("new")
		time.Sleep(48 * time.Second)
		release := make(chan struct{})
		f.store.set(release, false)
		f.finds("") // without waiting
		f.finds("")
		f.asked(2) // and it is looked up once
		close(release)
		synctest.Wait()
		f.finds("new")
		time.Sleep(47 * time.Second)
		f.finds("new")
		f.asked(2)
		if s := f.Stats(); s.Refreshes != 1 || s.Misses != 1 || s.Hits != 4 || s.Lookups != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// A refresh that fails is harmless within the TTL, and is not tried again before its end.
func TestCacheRefreshFails(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.finds("")
		f.store.Fail(errDown)
		time.Sleep(50 * time.Second)
		for range 5 {
			f.finds("")
			f.asked(2)
			time.Sleep(time.Second)
		}
		f.store.Fail(nil)
		f.rename("new")
		time.Sleep(5 * time.Second)
		f.finds("new")
	})
}

func TestCacheStale(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.finds("")
		f.store.Fail(errDown)
		time.Sleep(time.Minute)
		f.finds("")
		f.asked(2) // it was asked first
		f.finds("")
		f.asked(3)
		time.Sleep(9*time.Minute - time.Nanosecond)
		f.finds("")
		time.Sleep(time.Nanosecond)
		f.fails(errDown)
		if s := f.Stats(); s.Stale != 3 || s.Errors != 4 || !s.StoreOutage {
			t.Errorf("%+v", s)
		}
		if n := strings.Count(f.log.String(), "store is unavailable"); n != 1 {
			t.Errorf("the outage is logged %d times, want once:\n%s", n, f.log)
		}
		if age := f.Stats().OldestStale; age != 10*time.Minute-time.Nanosecond {
			t.Errorf("the oldest stale record is %s old", age)
		}
		time.Sleep(time.Minute)
		if age := f.Stats().OldestStale; age != 0 {
			t.Errorf("a minute later, the oldest stale record is %s old", age)
		}
		f.store.Fail(nil)
		f.rename("new")
		time.Sleep(time.Second)
		f.finds("new")
		time.Sleep(time.Minute)
		f.finds("new")
		if n := strings.Count(f.log.String(), "available again"); n != 1 || f.Stats().StoreOutage {
			t.Errorf("its end is logged %d times, want once:\n%s", n, f.log)
		}
	})
}

// The store's answer about a key is used as soon as the store answers again.
func TestCacheRevokedInOutage(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.finds("")
		f.store.Fail(errDown)
		time.Sleep(2 * time.Minute)
		f.finds("")
		f.store.Fail(nil)
		if err := f.store.Delete(f.Context(), f.known.ID); err != nil {
			t.Fatal(err)
		}
		f.fails(keystore.ErrNotFound)
		f.store.Fail(errDown)
		time.Sleep(10 * time.Second)
		f.fails(errDown) // the record is gone
	})
}

func TestCacheNeverStale(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.finds("")
		f.store.Fail(errDown)
		time.Sleep(time.Minute - time.Nanosecond)
		f.finds("")
		time.Sleep(time.Nanosecond)
		f.fails(errDown)
	}, func(c *cache.Config) { c.MaxStale = 0 })
}

// If a store hangs, one caller waits for the lookup's timeout, and no others do for a second.
func TestCacheHang(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.finds("")
		f.store.set(nil, true)
		time.Sleep(time.Minute)
		took := func(want time.Duration) {
			f.Helper()
			start := time.Now()
			f.finds("")
			if took := time.Since(start); took != want {
				f.Errorf("took %s, want %s", took, want)
			}
		}
		took(150 * time.Millisecond)
		synctest.Wait()
		took(0)
		time.Sleep(999 * time.Millisecond)
		took(0)
		f.asked(2)
		time.Sleep(time.Millisecond)
		took(150 * time.Millisecond)
		f.asked(3)
		time.Sleep(10 * time.Minute)
		f.fails(context.DeadlineExceeded)
	})
}

// While a lookup is late, the same hash is not looked up again, and the late answer is used.
func TestCacheLateAnswer(t *testing.T) {
	const timeout = 150 * time.Millisecond
	inBubble(t, func(f *fixture) {
		release := make(chan struct{})
		f.store.set(release, false)
		f.fails(context.DeadlineExceeded) // nothing is known of the key
		start := time.Now()
		f.fails(context.DeadlineExceeded)
		if waited := time.Since(start); waited != timeout {
			f.Errorf("waited %s", waited)
		}
		f.asked(1)
		if s := f.Stats(); s.InFlight != 1 || s.Errors != 0 || !s.StoreOutage {
			f.Errorf("while it is under way: %+v", s)
		}
		close(release)
		synctest.Wait()
		f.store.set(nil, true)
		f.finds("")
		f.asked(1)
		if s := f.Stats(); s.InFlight != 0 || s.Errors != 1 || !s.StoreOutage {
			f.Errorf("after the answer: %+v", s)
		}

		time.Sleep(time.Minute)
		release = make(chan struct{})
		f.rename("new")
		f.store.set(release, false)
		for i := range 3 {
			start := time.Now()
			f.finds("")
			if waited := time.Since(start); i == 0 && waited != timeout || i > 0 && waited != 0 {
				f.Errorf("round %d waited %s", i, waited)
			}
		}
		f.Invalidate(f.known.Hash) // what is in progress was asked for before
		f.rename("newest")
		close(release)
		synctest.Wait()
		f.store.set(nil, false)
		f.finds("newest")
		f.asked(3)
	})
}

// The pause after a timeout adds nothing to MaxStale.
func TestCacheHangMaxStale(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.finds("")
		f.store.set(nil, true)
		time.Sleep(10*time.Minute - 500*time.Millisecond)
		f.finds("") // 350ms are left
		time.Sleep(350 * time.Millisecond)
		f.fails(context.DeadlineExceeded)
	})
}

// A record's age counts from the start of its lookup, because it may have changed since.
func TestCacheAgeFromStart(t *testing.T) {
	inBubble(t, func(f *fixture) {
		release := make(chan struct{})
		f.store.set(release, false)
		var first sync.WaitGroup
		first.Go(func() { f.finds("") })
		time.Sleep(100 * time.Millisecond)
		close(release)
		first.Wait()
		f.rename("new")
		time.Sleep(time.Minute - 100*time.Millisecond)
		f.finds("new")
	})
}

// A caller gets an answer before its own deadline, whatever the lookup's timeout is.
func TestCacheCallerDeadline(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.finds("")
		f.store.set(nil, true)
		time.Sleep(time.Minute)
		ctx, cancel := context.WithTimeout(f.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		if k, err := f.Lookup(ctx, f.known.Hash); k == nil || time.Since(start) != 75*time.Millisecond {
			t.Errorf("found %v, error %v after %s; want the stale record after 75ms", k, err, time.Since(start))
		}
	})
}

func TestCacheOneFlight(t *testing.T) {
	inBubble(t, func(f *fixture) {
		release := make(chan struct{})
		f.store.set(release, false)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { f.finds("") })
		}
		f.asked(1)
		close(release)
		wg.Wait()
		f.asked(1)
	})
}

// A caller that gives up fails no other, even if it started the lookup.
func TestCacheCancelledCaller(t *testing.T) {
	inBubble(t, func(f *fixture) {
		release := make(chan struct{})
		f.store.set(release, false)
		ctx, cancel := context.WithCancel(f.Context())
		first := make(chan error)
		go func() {
			_, err := f.Lookup(ctx, f.known.Hash)
			first <- err
		}()
		synctest.Wait()
		var wg sync.WaitGroup
		wg.Go(func() { f.finds("") })
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the cancelled caller got %v", err)
		}
		close(release)
		wg.Wait()
		f.asked(1)
	})
}

func TestCacheClose(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.finds("")
		f.store.set(nil, true)
		time.Sleep(50 * time.Second)
		f.finds("") // starts a refresh, which hangs
		start := time.Now()
		f.Close()
		if took := time.Since(start); took != 0 {
			t.Errorf("Close waited %s for a lookup that it should have ended", took)
		}
		f.finds("")
		if k, err := f.Lookup(f.Context(), keystore.Hash{1}); k != nil || err == nil || errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("after Close an unknown hash gives %v, %v; want an error other than ErrNotFound", k, err)
		}
		if strings.Contains(f.log.String(), "store is unavailable") {
			t.Errorf("Close was logged as an outage:\n%s", f.log)
		}
	})
}

type storeFunc func() (*keystore.Key, error)

func (s storeFunc) Lookup(context.Context, keystore.Hash) (*keystore.Key, error) { return s() }

func TestCacheFaultyStore(t *testing.T) {
	for name, store := range map[string]storeFunc{
		"panics":  func() (*keystore.Key, error) { panic("a bug") },
		"nothing": func() (*keystore.Key, error) { return nil, nil },
	} {
		c, err := cache.New(store, cache.DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		if k, err := c.Lookup(t.Context(), keystore.Hash{1}); k != nil || err == nil || errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("%s: %v, %v; want an error other than ErrNotFound", name, k, err)
		}
		c.Close()
	}
}
