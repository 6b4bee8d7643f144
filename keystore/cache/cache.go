// Package cache answers look-ups of keys from memory, in front of a store across the network.
package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"extauthz/keystore"
)

// ErrBusy says that as many look-ups are under way as may be, in a [Cache] or in a store, so
// that no other was made.
var ErrBusy = errors.New("too many look-ups in the key store are under way")

var errClosed = errors.New("the cache is closed")

// A Cache answers look-ups from memory, in front of a store that is slow or far away. It
// keeps records, never decisions, and is safe for concurrent use.
//
// A record that the store confirmed less than TTL ago answers from memory; in the last fifth
// of that time it is asked for again in the background. An older one is asked for before it
// answers. Where the store cannot be reached then (any error but [keystore.ErrNotFound], no answer in
// time, or [keystore.ErrBusy]), the record still answers until MaxStale after it was last confirmed;
// after that the error does. If what failed was a look-up that took all of LookupTimeout, the
// record answers for a second before it is asked for again, so that a store that hangs does
// not slow every request. An answer that a store gives later than that serves those who ask
// next, and counts as an error.
//
// A record that was invalidated, by its hash or with all others, never answers again: neither
// fresh nor stale, nor through a look-up that started before. The store must confirm it. So a
// database that restarts is bridged by MaxStale until its connection is back and says
// InvalidateAll; from then on the store is asked for every record first.
//
// There is at most one look-up under way for one hash; all who ask for it wait for it, each
// no longer than until three quarters of the time that its own ctx leaves, so that there is
// time to answer. A look-up does not end because one of them goes away.
type Cache struct {
	store  keystore.Store
	config Config
	start  time.Time // what the cache's times are counted from

	ctx    context.Context //nolint:containedctx // what Close ends
	cancel context.CancelFunc
	wg     sync.WaitGroup // of the look-ups under way

	outage outage

	mu      sync.Mutex // guards what follows
	epoch   uint64     // counts InvalidateAll, from 1
	records *lru
	unknown *simplelru.LRU[keystore.Hash, negative]
	flights map[keystore.Hash]*flight // those whose result may be kept
	running map[bool]int              // look-ups under way, by whether the hash has a record
	stats   Stats
}

var (
	_ keystore.Store       = (*Cache)(nil)
	_ keystore.Invalidator = (*Cache)(nil)
)

// A record is what the store last said of a hash that it knew.
type record struct {
	key       *keystore.Key
	confirmed time.Duration // when the look-up that returned it started
	epoch     uint64        // the cache's then; 0: invalidated by its hash
	failed    bool          // a look-up since then could not be made
	askAfter  time.Duration // the store hung: not to be asked for before
}

// A negative says until when a hash is unknown.
type negative struct {
	until time.Duration
	epoch uint64
}

// hangPause is how long a record answers after a look-up for it timed out before it is asked
// for again.
const hangPause = time.Second

// New returns a cache in front of the store, or what is wrong with the configuration.
// Close it when it is no longer used.
func New(store keystore.Store, config Config) (*Cache, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	c := &Cache{store: store, config: config, start: time.Now(), epoch: 1, flights: make(map[keystore.Hash]*flight), running: make(map[bool]int)}
	c.records = newLRU(config.Size)
	var err error
	if c.unknown, err = simplelru.NewLRU[keystore.Hash, negative](config.NegativeSize, nil); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Close ends the look-ups under way and waits for them. After it the cache answers only from
// memory.
func (c *Cache) Close() {
	c.mu.Lock() // under which look-ups start
	c.cancel()
	c.mu.Unlock()
	c.wg.Wait()
}

// now is the time since the cache was made. It counts by the monotonic clock alone, which is
// read in half the time that [time.Now] takes.
func (c *Cache) now() time.Duration { return time.Since(c.start) }

// Invalidate implements [keystore.Invalidator].
func (c *Cache) Invalidate(h keystore.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Invalidations++
	if r := c.records.peek(h); r != nil {
		*r = record{} // its place is kept: this is a hash that the store knew
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
	clear(c.flights)
}

// Lookup implements [keystore.Store].
func (c *Cache) Lookup(ctx context.Context, h keystore.Hash) (*keystore.Key, error) {
	now := c.now()
	c.mu.Lock()
	if r := c.records.get(h); r != nil && r.epoch == c.epoch {
		if age := now - r.confirmed; age < c.config.TTL {
			if age >= c.config.TTL-c.config.TTL/5 && !r.failed {
				c.refresh(h, now) //nolint:contextcheck // a refresh outlives the caller
			}
			c.stats.Hits++
			k := r.key
			c.mu.Unlock()
			return k, nil
		}
	}
	c.mu.Unlock()
	return c.miss(ctx, h)
}

// miss answers what no fresh record does.
func (c *Cache) miss(ctx context.Context, h keystore.Hash) (*keystore.Key, error) {
	limit := c.config.LookupTimeout
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
		late := false
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
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

// late answers whoever has waited in vain for so long.
func (c *Cache) late(h keystore.Hash, waited time.Duration) (*keystore.Key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.records.peek(h); r != nil && waited >= c.config.LookupTimeout {
		r.askAfter = c.now() + hangPause
	}
	return c.staleLocked(h, fmt.Errorf("the key store did not answer in time: %w", context.DeadlineExceeded))
}

// ask answers from memory where it may; otherwise it returns the look-up to wait for.
func (c *Cache) ask(ctx context.Context, h keystore.Hash, again bool) (*keystore.Key, *flight, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	r := c.records.get(h)
	known := r != nil
	if known && r.epoch == c.epoch {
		switch age := now - r.confirmed; {
		case age < c.config.TTL: // another look-up has just ended
			if !again {
				c.stats.Hits++
			}
			return r.key, nil, nil
		case age < c.config.MaxStale && now < r.askAfter:
			c.stats.Stale++
			return r.key, nil, nil
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
	f, err := c.take(h, now, known) //nolint:contextcheck // shared by callers, so it ends with none of them
	if err != nil {
		k, err := c.staleLocked(h, err)
		return k, nil, err
	}
	return nil, f, nil
}

// stale returns the last known record where it may still answer, and err otherwise.
func (c *Cache) stale(h keystore.Hash, err error) (*keystore.Key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.staleLocked(h, err)
}

func (c *Cache) staleLocked(h keystore.Hash, err error) (*keystore.Key, error) {
	r := c.records.peek(h)
	if r == nil || r.epoch != c.epoch || c.now()-r.confirmed >= c.config.MaxStale {
		return nil, err
	}
	c.stats.Stale++
	return r.key, nil
}
