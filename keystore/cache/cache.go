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

// A Cache answers look-ups from memory, in front of a store across the network. It keeps records,
// never decisions, and is safe for concurrent use.
//
// A record that the store confirmed less than TTL ago answers from memory; in the last fifth of
// that time it is looked up again in the background. An older one is looked up before it answers.
// If the store cannot be asked then (any error but [keystore.ErrNotFound], no answer in time, or
// [keystore.ErrBusy]), the record still answers until MaxStale after it was last confirmed; after
// that the error does. If a look-up took all of LookupTimeout, the record answers for a second
// before it is looked up again, so that a store that hangs does not slow down every request. An
// answer that arrives later than that serves the next requests, and counts as an error.
//
// Invalidate says that a record has changed. It never answers again until the store confirms it.
//
// InvalidateAll says that any record may have changed. Each is looked up before it answers, and
// answers unconfirmed only if the store cannot be asked, until MaxStale after it was last
// confirmed; ErrBusy alone, outside of an outage, does not let it.
//
// After both, the records in use (those that answered within the last MaxStale or TTL) are looked
// up in the background at once, the one used last first, a few at a time, and again until the
// store answers. So an outage that begins soon afterwards finds them confirmed.
//
// A look-up that was under way when its hash was invalidated counts for nothing.
//
// At most one look-up is under way for one hash; all who ask for it wait for it, each no longer
// than three quarters of the time that its own ctx leaves, so that there is time to answer. A
// look-up does not end because one of them goes away.
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
	running [purposes]int             // look-ups under way
	stats   Stats

	suspected time.Duration // when InvalidateAll was last called
	backlog   backlog
}

var (
	_ keystore.Store       = (*Cache)(nil)
	_ keystore.Invalidator = (*Cache)(nil)
)

// A record is the store's last answer for a hash that it knew.
type record struct {
	key       *keystore.Key // nil: it has changed since
	confirmed time.Duration // when the look-up that returned it started
	epoch     uint64        // the cache's then; 0: it has changed since
	used      time.Duration // when someone last asked for it
	hung      time.Duration // when a look-up of it last took all of its time; 0: never
	failed    bool          // a look-up since it was confirmed failed
}

// A negative says until when a hash is unknown.
type negative struct {
	until time.Duration
	epoch uint64
}

// hangPause is how long a record answers after a look-up of it timed out before it is looked up
// again.
const hangPause = time.Second

// New returns a cache in front of the store, or what is wrong with the configuration. It must be
// closed.
func New(store keystore.Store, config Config) (*Cache, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	c := &Cache{store: store, config: config, start: time.Now(), epoch: 1, flights: make(map[keystore.Hash]*flight)}
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

// Close ends the look-ups under way and waits for them. After it the cache answers from memory
// alone.
func (c *Cache) Close() {
	c.mu.Lock() // under which look-ups start
	c.cancel()
	c.mu.Unlock()
	c.wg.Wait()
}

// now is the time since the cache was made, by the monotonic clock alone, which takes half as long
// to read as [time.Now].
func (c *Cache) now() time.Duration { return time.Since(c.start) }

// Invalidate implements [keystore.Invalidator].
func (c *Cache) Invalidate(h keystore.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Invalidations++
	if r := c.records.peek(h); r != nil {
		*r = record{used: r.used} // its place is kept: this is a hash that the store knew
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
	now := c.now()
	c.mu.Lock()
	if r := c.records.get(h); r != nil {
		r.used = now
		if age := now - r.confirmed; r.epoch == c.epoch && age < c.config.TTL {
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

// late answers a caller who has waited in vain for so long.
func (c *Cache) late(h keystore.Hash, waited time.Duration) (*keystore.Key, error) {
	err := fmt.Errorf("the key store did not answer in time: %w", context.DeadlineExceeded)
	now := c.now()
	hung := waited >= c.config.LookupTimeout
	if hung {
		c.noteOutage(now, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.records.peek(h); r != nil && hung {
		r.hung = now
	}
	return c.staleLocked(h, err)
}

// ask answers from memory where it may; otherwise it returns the look-up to wait for.
func (c *Cache) ask(ctx context.Context, h keystore.Hash, again bool) (*keystore.Key, *flight, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	r := c.records.get(h)
	if r != nil {
		age := now - r.confirmed
		switch {
		case r.epoch == c.epoch && age < c.config.TTL: // another look-up has just ended
			if !again {
				c.stats.Hits++
			}
			return r.key, nil, nil
		case r.key != nil && age < c.config.MaxStale && c.hangs(r, now):
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
	purpose := unknownHash
	if r != nil {
		purpose = knownHash
	}
	f, err := c.take(h, now, purpose) //nolint:contextcheck // shared by callers, so it ends with none of them
	if err != nil {
		k, err := c.staleLocked(h, err)
		return k, nil, err
	}
	return nil, f, nil
}

// hangs reports whether the store hung when it was last asked for this record, less than hangPause
// ago. What was seen before InvalidateAll does not count: the store may answer again.
func (c *Cache) hangs(r *record, now time.Duration) bool {
	return r.hung > c.suspected && now-r.hung < hangPause
}

// stale returns the last known record if it may still answer, and err otherwise.
func (c *Cache) stale(h keystore.Hash, err error) (*keystore.Key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.staleLocked(h, err)
}

func (c *Cache) staleLocked(h keystore.Hash, err error) (*keystore.Key, error) {
	r := c.records.peek(h)
	switch {
	case r == nil || r.key == nil || c.now()-r.confirmed >= c.config.MaxStale:
		return nil, err
	case r.epoch != c.epoch && errors.Is(err, keystore.ErrBusy) && !c.outage.on.Load():
		c.confirmLater()
		return nil, err // it may have changed, and the store answers others
	}
	c.stats.Stale++
	return r.key, nil
}
