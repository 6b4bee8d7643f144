package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/cache"
	"extauthz/keystore/postgres/pgtest"
	"extauthz/keystore/storetest"
	"extauthz/polltest"
)

// A replica is a store with a cache and its channel of changes.
type replica struct {
	store   *Store
	cache   *cache.Cache
	channel chan bool // the calls of OnChannel
}

// newReplica returns a replica that caches records and unknown hashes for ttl.
func newReplica(t *testing.T, dsn string, ttl time.Duration) *replica {
	t.Helper()
	return newReplicaOf(t, Options{DSN: dsn}, ttl)
}

func newReplicaOf(t *testing.T, o Options, ttl time.Duration) *replica {
	t.Helper()
	r := &replica{channel: make(chan bool, 100)}
	o.OnChannel = func(up bool, _ error) { r.channel <- up }
	r.store = open(t, o)
	cfg := cache.DefaultConfig()
	cfg.TTL, cfg.NegativeTTL, cfg.LookupTimeout = ttl, ttl, 300*time.Millisecond
	var err error
	r.cache, err = cache.New(r.store, cfg)
	must(t, err)
	t.Cleanup(r.cache.Close)
	watch(t, r.store, r.cache)
	return r
}

// With brief, records are looked up again during a test; with long, only if the channel reports a
// change.
const (
	brief = 100 * time.Millisecond
	long  = time.Hour
)

// await waits until the channel comes up, or goes down.
func (r *replica) await(t *testing.T, up bool) {
	t.Helper()
	for {
		select {
		case got := <-r.channel:
			if got == up {
				return
			}
		case <-time.After(60 * time.Second):
			t.Fatalf("the channel never became up: %t", up)
		}
	}
}

func (r *replica) lookup(k *keystore.Key) (*keystore.Key, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return r.cache.Lookup(ctx, k.Hash)
}

// allows waits until the replica finds the key enabled.
func (r *replica) allows(t *testing.T, k *keystore.Key) {
	t.Helper()
	polltest.NoError(t, func() error {
		got, err := r.lookup(k)
		if err == nil && !got.Enabled {
			err = errors.New("disabled")
		}
		return err
	})
}

// refusesAtOnce waits until the replica says that the key is disabled. Before, it may fail to
// answer, but find it enabled only if the database did not answer in time.
func (r *replica) refusesAtOnce(t *testing.T, k *keystore.Key) {
	t.Helper()
	polltest.NoError(t, func() error {
		stale := r.cache.Stats().Stale
		got, err := r.lookup(k)
		if err == nil && got.Enabled {
			if r.cache.Stats().Stale == stale {
				t.Fatal("a key that was revoked is still let through")
			}
			err = errors.New("not confirmed yet")
		}
		return err
	})
}

// bridges checks that known keys still work and unknown ones are errors, for longer than records are
// fresh.
func (r *replica) bridges(t *testing.T, known *keystore.Key) {
	t.Helper()
	for until := time.Now().Add(500 * time.Millisecond); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if k, err := r.lookup(known); err != nil || !k.Enabled {
			t.Fatalf("a known key during the fault: %v", err)
		}
	}
	if k, err := r.lookup(storetest.NewKey("key_unknown")); err == nil || errors.Is(err, keystore.ErrNotFound) {
		t.Fatalf("an unknown key during the fault: key %v, error %v; want that it could not be looked up", k, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := r.store.Ready(ctx); err == nil || strings.Contains(err.Error(), pgtest.Password) {
		t.Fatalf("Ready during the fault: %v", err)
	}
}

// recovers waits until the store works again.
func (r *replica) recovers(t *testing.T, known *keystore.Key) {
	t.Helper()
	polltest.NoError(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return r.store.Ready(ctx)
	})
	r.allows(t, known)
	polltest.NoError(t, func() error {
		_, err := r.lookup(storetest.NewKey("key_unknown"))
		if errors.Is(err, keystore.ErrNotFound) {
			return nil
		}
		return fmt.Errorf("an unknown key: %w", err)
	})
}

func TestStoreBehindACache(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Backend {
		r := newReplica(t, server.URL(freshDatabase(t, server), server.Addr()), brief)
		patient := cache.DefaultConfig()
		patient.TTL, patient.NegativeTTL, patient.LookupTimeout = brief, brief, 10*time.Second
		must(t, r.cache.Configure(patient))
		r.await(t, true)
		return struct {
			keystore.Store
			keystore.Editor
		}{r.cache, r.store}
	})
}

func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	db := freshDatabase(t, server)
	dsn := server.URL(db, server.Addr())
	a, b := newReplica(t, dsn, long), newReplica(t, dsn, long)
	a.await(t, true)
	b.await(t, true)
	k := storetest.NewKey("key_a")
	if _, err := b.lookup(k); !errors.Is(err, keystore.ErrNotFound) {
		t.Fatal(err)
	}
	must(t, a.store.Add(t.Context(), k))
	a.allows(t, k)
	b.allows(t, k) // though it was unknown for an hour

	enable := func(enabled bool) func() {
		return func() {
			must(t, a.store.Update(t.Context(), k.ID, func(k *keystore.Key) error { k.Enabled = enabled; return nil }))
		}
	}
	sql := func(enabled bool) func() {
		return func() { server.Exec(t, db, `UPDATE extauthz.keys SET enabled = $1 WHERE id = 'key_a'`, enabled) }
	}
	var took []time.Duration
	for i := range 20 {
		for j, change := range []func(){enable(false), enable(true), sql(false), sql(true)} {
			change()
			start := time.Now()
			for _, r := range []*replica{a, b} {
				polltest.NoError(t, func() error {
					got, err := r.lookup(k)
					if err == nil && got.Enabled != (j%2 == 1) {
						err = fmt.Errorf("round %d, change %d: enabled %t", i, j, got.Enabled)
					}
					return err
				})
			}
			took = append(took, time.Since(start))
		}
	}
	slices.Sort(took)
	t.Logf("a change is seen by both: median %s, worst of %d %s", took[len(took)/2], len(took), took[len(took)-1])
}

// The database is down when the replica starts.
func TestDownAtStart(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	db := freshDatabase(t, s)
	known := storetest.NewKey("key_known")
	must(t, open(t, Options{DSN: s.URL(db, s.Addr())}).Add(t.Context(), known))
	s.Stop(t)

	r := newReplica(t, s.URL(db, s.Addr()), brief)
	r.await(t, false)
	if err := r.store.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), pgtest.Password) {
		t.Errorf("Ready: %v, want why", err)
	}
	if _, err := r.lookup(known); err == nil || errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("a lookup: %v", err)
	}
	s.Restart(t)
	r.await(t, true)
	r.recovers(t, known)
}

func TestServerFaults(t *testing.T) {
	type server = *pgtest.Server
	for name, fault := range map[string]struct{ begin, end func(testing.TB, server) }{
		"killed":  {func(_ testing.TB, s server) { s.Kill() }, restart},
		"stopped": {func(t testing.TB, s server) { s.Stop(t) }, restart},
		"frozen":  {func(_ testing.TB, s server) { s.Pause() }, func(_ testing.TB, s server) { s.Resume() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := pgtest.Start(t)
			dsn := s.URL(freshDatabase(t, s), s.Addr())
			known := storetest.NewKey("key_known")
			// Before the replica listens: its notification must not invalidate the cached key.
			must(t, open(t, Options{DSN: dsn}).Add(t.Context(), known))
			r := newReplica(t, dsn, brief)
			r.await(t, true)
			r.allows(t, known)

			fault.begin(t, s)
			began := time.Now()
			r.bridges(t, known)
			r.await(t, false)
			t.Logf("the channel was found down within %s", time.Since(began))
			r.bridges(t, known)
			fault.end(t, s)
			ended := time.Now()
			r.await(t, true)
			t.Logf("the channel was back within %s", time.Since(ended))
			r.recovers(t, known)
		})
	}
}

func restart(t testing.TB, s *pgtest.Server) { s.Restart(t) }

// A lookup in a frozen server ends with its ctx.
func TestLookupEndsInTime(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	store := open(t, Options{DSN: s.URL(freshDatabase(t, s), s.Addr())})
	_, err := store.Lookup(t.Context(), keystore.Hash{1})
	if !errors.Is(err, keystore.ErrNotFound) {
		t.Fatal(err)
	}
	s.Pause()
	defer s.Resume()
	for range 3 * defaultMaxConns { // more than the pool has
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := store.Lookup(ctx, keystore.Hash{1})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error %v, want that the time was over", err)
		}
	}
}

// The replica's connection to the database is cut before a key is revoked.
func TestCutConnection(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]mode{"closed": refuse, "silent": blackhole} {
		t.Run(name, func(t *testing.T) {
			db := freshDatabase(t, server)
			known, revoked := storetest.NewKey("key_known"), storetest.NewKey("key_revoked")
			must(t, open(t, Options{DSN: server.URL(db, server.Addr())}).Put(t.Context(), []*keystore.Key{known, revoked}))
			p := newProxy(t, server.Addr())
			r := newReplica(t, server.URL(db, p.addr()), brief)
			r.await(t, true)
			r.allows(t, known)
			r.allows(t, revoked)

			p.set(cut)
			began := time.Now()
			server.Exec(t, db, `UPDATE extauthz.keys SET enabled = false WHERE id = 'key_revoked'`)
			r.bridges(t, known)
			r.bridges(t, revoked) // the replica cannot know yet
			r.await(t, false)
			t.Logf("the channel was found down within %s", time.Since(began))
			r.bridges(t, known)

			p.set(forward)
			ended := time.Now()
			r.await(t, true)
			t.Logf("the channel was back within %s", time.Since(ended))
			r.refusesAtOnce(t, revoked)
			r.recovers(t, known)
		})
	}
}

// A database that is slow for a moment does not lose the connection.
func TestLateAnswerKeepsTheConnection(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	store := open(t, Options{DSN: s.URL(freshDatabase(t, s), s.Addr())})
	k := storetest.NewKey("key_a")
	must(t, store.Add(t.Context(), k))
	if _, err := store.Lookup(t.Context(), k.Hash); err != nil { // which prepares the query
		t.Fatal(err)
	}
	made := store.pool.Stat().NewConnsCount()

	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	answer := make(chan error, 1)
	go func() { _, err := store.Lookup(ctx, k.Hash); answer <- err }()
	<-ctx.Done()
	select {
	case err := <-answer:
		t.Fatalf("cancelled at once: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	s.Resume()
	if err := <-answer; err != nil {
		t.Errorf("the late answer: %v", err)
	}
	if _, err := store.Lookup(t.Context(), k.Hash); err != nil {
		t.Error(err)
	}
	if n := store.pool.Stat().NewConnsCount(); n != made {
		t.Errorf("%d connections were made, and %d before", n, made)
	}

	s.Pause()
	defer s.Resume()
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := store.Lookup(ctx, k.Hash); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a database that is frozen for longer: %v", err)
	}
}

// Lookups in a server that hangs occupy at most as many goroutines as may be in flight.
func TestHungServerBoundsGoroutines(t *testing.T) {
	s := pgtest.Start(t)
	store := open(t, Options{DSN: s.URL(freshDatabase(t, s), s.Addr())})
	cfg := cache.DefaultConfig()
	cfg.MaxInFlight, cfg.LookupTimeout = 100, 100*time.Millisecond
	c, err := cache.New(store, cfg)
	must(t, err)
	defer c.Close()
	if _, err := c.Lookup(t.Context(), keystore.Hash{1}); !errors.Is(err, keystore.ErrNotFound) {
		t.Fatal(err)
	}
	s.Pause()
	defer s.Resume()
	before := runtime.NumGoroutine()
	worst := 0
	for round := range 8 {
		var callers sync.WaitGroup
		for i := range 1000 {
			callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				defer cancel()
				c.Lookup(ctx, keystore.Secret(fmt.Sprint(round, i)).Hash())
			})
		}
		callers.Wait()
		worst = max(worst, runtime.NumGoroutine())
		time.Sleep(100 * time.Millisecond)
	}
	if limit := before + 3*cfg.MaxInFlight; worst > limit {
		t.Errorf("%d goroutines, %d before; want at most %d", worst, before, limit)
	}
	t.Logf("%d goroutines at most, %d before", worst, before)
}
