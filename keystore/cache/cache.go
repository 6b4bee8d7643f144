// Package cache keeps the records of a remote key store in memory.
package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"extauthz/keystore"
)

var errClosed = errors.New("the cache is closed")

// A Cache is a [keystore.Store] in front of a remote one. It caches records, never decisions, and is
// safe for concurrent use.
//
// # Freshness
//
// A record is fresh for TTL after the store confirmed it: lookups return it from memory, and in the
// last fifth of TTL the cache refreshes it in the background. A lookup of an older record asks the
// store first. If the store is unavailable (any error but [keystore.ErrNotFound], no answer in time,
// or [keystore.ErrBusy]), the lookup returns the stale record until MaxStale after it was last
// confirmed, and the error after that.
//
// If a lookup took all of LookupTimeout, the stale record is returned for a second before the store
// is asked again, so that a hanging store does not slow down every request. An answer that arrives
// later than LookupTimeout is cached, and counts as an error.
//
// # Invalidation
//
// Invalidate marks a record as changed: it is never returned again until the store confirms it.
//
// InvalidateAll marks all records as possibly changed: a lookup asks the store first, and returns
// an unconfirmed record only if the store is unavailable, until MaxStale after it was last confirmed.
// ErrBusy counts as unavailable only during an outage.
//
// After both, the cache confirms the records in use (those looked up within the last MaxStale or TTL)
// in the background, the most recently used first, a few at a time, and retries until the store
// answers. An outage that begins soon after an invalidation so finds them confirmed.
//
// The result of a lookup that was in flight when its hash was invalidated is discarded.
//
// # Concurrency
//
// At most one lookup per hash is in flight. All callers wait for it, each for at most three quarters
// of the time until its ctx's deadline, so that there is time left to reply. A lookup does not end
// when its caller goes away.
type Cache struct {
	store  keystore.Store
	config atomic.Pointer[Config] // never nil, and never changed
	log    *slog.Logger

	onOutage func(error)                       // may be nil
	onWait   func(context.Context) func(error) // may be nil
	start    time.Time                         // the origin of the cache's times

	ctx    context.Context //nolint:containedctx // canceled by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // of lookups in flight

	outage outage

	mu      sync.Mutex // guards what follows
	epoch   uint64     // counts InvalidateAll, from 1
	records *lru
	unknown *simplelru.LRU[keystore.Hash, negative]
	flights map[keystore.Hash]*flight // those whose result may be kept
	running [purposes]int             // lookups in progress
	stats   Stats

	lastStale time.Duration // when a stale record was last returned
	suspected time.Duration // when InvalidateAll was last called
	backlog   backlog
}

var (
	_ keystore.StaleStore  = (*Cache)(nil)
	_ keystore.MemoryStore = (*Cache)(nil)
	_ keystore.Invalidator = (*Cache)(nil)
)

// A record is the store's last answer for a known hash.
type record struct {
	key       *keystore.Key // nil: changed since
	confirmed time.Duration // when the lookup that returned it started
	epoch     uint64        // the cache's epoch then; 0: changed since
	used      time.Duration // when it was last looked up
	hung      time.Duration // when a lookup of it last timed out; 0: never
	failed    bool          // a lookup failed since it was confirmed
}

// A negative is an unknown hash, and until when it needs no lookup.
type negative struct {
	until time.Duration
	epoch uint64
}

// hangPause is the time between two lookups of a record while they time out.
const hangPause = time.Second

// New returns a cache in front of the store, or an error if the configuration is invalid. It must
// be closed.
func New(store keystore.Store, config Config) (*Cache, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	c := &Cache{store: store, log: config.Log, start: time.Now(), onOutage: config.OnOutage, onWait: config.OnWait, epoch: 1, flights: make(map[keystore.Hash]*flight)}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.config.Store(&config)
	c.records = newLRU(config.Size)
	var err error
	if c.unknown, err = simplelru.NewLRU[keystore.Hash, negative](config.NegativeSize, nil); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.backlog.wake = make(chan struct{}, 1)
	c.wg.Go(c.confirmBacklog)
	return c, nil
}

// Configure changes the sizes and times for lookups from now on. All cached records stay, but for
// the least recently used ones if there are more than fit. config.Log and the hooks are ignored.
// The error is that of [Config.Validate].
func (c *Cache) Configure(config Config) error {
	if err := config.Validate(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.config.Store(&config)
	c.records.resize(config.Size)
	c.unknown.Resize(config.NegativeSize)
	return nil
}

// Close cancels the lookups in flight and waits for them to end. Later lookups are answered from
// memory alone.
func (c *Cache) Close() {
	c.mu.Lock() // under which lookups start
	c.cancel()
	c.mu.Unlock()
	c.wg.Wait()
}

// now returns the time since the cache was created. It reads the monotonic clock alone, in half the
// time of [time.Now].
func (c *Cache) now() time.Duration { return time.Since(c.start) }

// Invalidate implements [keystore.Invalidator].
func (c *Cache) Invalidate(h keystore.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Invalidations++
	if r := c.records.peek(h); r != nil {
		*r = record{used: r.used} // the slot stays, as the hash is a known one
		c.confirmSoon(h)
	}
	c.unknown.Remove(h)
	delete(c.flights, h)
}

// InvalidateAll implements [keystore.Invalidator].
func (c *Cache) InvalidateAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Invalidations++
	c.epoch++
	c.suspected = c.now()
	clear(c.flights)
	c.confirmAllSoon()
}

// Lookup implements [keystore.Store].
func (c *Cache) Lookup(ctx context.Context, h keystore.Hash) (*keystore.Key, error) {
	k, _, err := c.LookupStale(ctx, h)
	return k, err
}

// LookupStale implements [keystore.StaleStore].
func (c *Cache) LookupStale(ctx context.Context, h keystore.Hash) (k *keystore.Key, stale bool, err error) {
	if k, err = c.lookUp(ctx, h); err == errStale { //nolint:errorlint // returned as it is, never wrapped
		return k, true, nil
	}
	return k, false, err
}

// LookupMemory implements [keystore.MemoryStore]. An answer that it does not have is not counted as a
// miss: LookupStale, which is to follow, counts it.
func (c *Cache) LookupMemory(h keystore.Hash) (k *keystore.Key, stale bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, config := c.now(), c.config.Load()
	if r := c.records.get(h); r != nil {
		r.used = now
		age := now - r.confirmed
		switch {
		case r.epoch == c.epoch && age < config.TTL:
			c.hit(h, r, now, config.TTL)
			return r.key, false, nil
		case r.key != nil && age < config.MaxStale && c.hangs(r, now):
			_ = c.countStale(age, now) // errStale, which stale says
			return r.key, true, nil
		}
	}
	if n, ok := c.unknown.Get(h); ok && n.epoch == c.epoch && now < n.until {
		c.stats.NegativeHits++
		return nil, false, keystore.ErrNotFound
	}
	return nil, false, keystore.ErrNotInMemory
}

// hit counts a lookup of a fresh record, and refreshes the record if its TTL is about to end; c.mu
// is held.
func (c *Cache) hit(h keystore.Hash, r *record, now, ttl time.Duration) {
	if age := now - r.confirmed; age >= ttl-ttl/5 && !r.failed {
		c.refresh(h, now)
	}
	c.stats.Hits++
}

// errStale accompanies a record that is stale.
var errStale = errors.New("the record is stale")

// lookUp is LookupStale, with errStale for a stale record.
func (c *Cache) lookUp(ctx context.Context, h keystore.Hash) (*keystore.Key, error) {
	now, ttl := c.now(), c.config.Load().TTL
	c.mu.Lock()
	if r := c.records.get(h); r != nil {
		if r.used = now; r.epoch == c.epoch && now-r.confirmed < ttl {
			c.hit(h, r, now, ttl) //nolint:contextcheck // a refresh outlives the caller
			k := r.key
			c.mu.Unlock()
			return k, nil
		}
	}
	c.mu.Unlock()
	return c.miss(ctx, h)
}

// miss is Lookup without a fresh record.
func (c *Cache) miss(ctx context.Context, h keystore.Hash) (*keystore.Key, error) {
	limit := c.config.Load().LookupTimeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)*3/4)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for again := false; ; again = true {
		k, f, err := c.ask(ctx, h, again)
		if f == nil {
			return k, err
		}
		waited := c.waits(ctx)
		late := false
		select {
		case <-f.done:
			waited(f.err)
		case <-ctx.Done():
			waited(ctx.Err())
			return nil, ctx.Err()
		case <-timer.C:
			waited(context.DeadlineExceeded)
			late = true
		}
		switch {
		case late && (!f.landed() || f.outdated):
			return c.late(h, limit)
		case f.outdated: // ask again
		case f.err == nil, errors.Is(f.err, keystore.ErrNotFound):
			return f.key, f.err
		default:
			return c.stale(h, f.err)
		}
	}
}

// waits calls OnWait, and returns what is to be called when the wait is over.
func (c *Cache) waits(ctx context.Context) func(error) {
	var over func(error)
	if c.onWait != nil {
		over = c.onWait(ctx)
	}
	if over == nil {
		return func(error) {}
	}
	return func(err error) {
		if errors.Is(err, keystore.ErrNotFound) {
			err = nil
		}
		over(err)
	}
}

// late returns the result for a caller who has waited for so long without an answer.
func (c *Cache) late(h keystore.Hash, waited time.Duration) (*keystore.Key, error) {
	err := fmt.Errorf("the key store did not answer in time: %w", context.DeadlineExceeded)
	now := c.now()
	hung := waited >= c.config.Load().LookupTimeout
	if hung {
		c.recordOutage(now, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.records.peek(h); r != nil && hung {
		r.hung = now
	}
	return c.staleLocked(h, err)
}

// ask returns an answer from memory if there is one, and otherwise the lookup to wait for.
func (c *Cache) ask(ctx context.Context, h keystore.Hash, again bool) (*keystore.Key, *flight, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, config := c.now(), c.config.Load()
	r := c.records.get(h)
	if r != nil {
		age := now - r.confirmed
		switch {
		case r.epoch == c.epoch && age < config.TTL: // confirmed in the meantime
			if !again {
				c.stats.Hits++
			}
			return r.key, nil, nil
		case r.key != nil && age < config.MaxStale && c.hangs(r, now):
			return r.key, nil, c.countStale(age, now)
		}
	}
	if n, ok := c.unknown.Get(h); ok && n.epoch == c.epoch && now < n.until {
		c.stats.NegativeHits++
		return nil, nil, keystore.ErrNotFound
	}
	if !again {
		c.stats.Misses++
	}
	if f := c.flights[h]; f != nil {
		return nil, f, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	purpose := unknownHash
	if r != nil {
		purpose = knownHash
	}
	f, err := c.startLookup(h, now, purpose) //nolint:contextcheck // shared by callers, so it ends with none of them
	if err != nil {
		k, err := c.staleLocked(h, err)
		return k, nil, err
	}
	return nil, f, nil
}

// hangs reports whether a lookup of the record timed out less than hangPause ago. A timeout before
// the last InvalidateAll does not count: the store may answer again.
func (c *Cache) hangs(r *record, now time.Duration) bool {
	return r.hung > c.suspected && now-r.hung < hangPause
}

// stale returns the last known record if it may still be used, and err otherwise.
func (c *Cache) stale(h keystore.Hash, err error) (*keystore.Key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.staleLocked(h, err)
}

func (c *Cache) staleLocked(h keystore.Hash, err error) (*keystore.Key, error) {
	r, now := c.records.peek(h), c.now()
	switch {
	case r == nil || r.key == nil || now-r.confirmed >= c.config.Load().MaxStale:
		return nil, err
	case r.epoch != c.epoch && errors.Is(err, keystore.ErrBusy) && !c.outage.on.Load():
		c.confirmLater()
		return nil, err // the record may have changed, and the store is available
	}
	return r.key, c.countStale(now-r.confirmed, now)
}

// staleWindow is for how long after the last stale record Stats.OldestStale is kept.
const staleWindow = time.Minute

// countStale counts a stale record of that age, and returns errStale; c.mu is held.
func (c *Cache) countStale(age, now time.Duration) error {
	c.stats.Stale++
	if now-c.lastStale >= staleWindow {
		c.stats.OldestStale = 0
	}
	c.stats.OldestStale, c.lastStale = max(c.stats.OldestStale, age), now
	return errStale
}
