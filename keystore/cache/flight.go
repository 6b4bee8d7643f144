package cache

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"extauthz/keystore"
)

// A purpose is the reason for a lookup. Each purpose has its own limit of lookups in flight, so
// that one cannot starve another.
type purpose int

const (
	unknownHash  purpose = iota // a caller waits, and the cache has no record
	knownHash                   // a caller waits, or a record's TTL is about to end
	confirmation                // a record in the backlog
	purposes
)

// A flight is one lookup in the store, in flight or done.
type flight struct {
	started time.Duration
	purpose purpose
	done    chan struct{} // closed when the fields below are set
	key     *keystore.Key
	err     error

	outdated bool // its hash was invalidated while it was in flight
}

func (f *flight) landed() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// refresh starts a lookup in the background, unless one is in flight; c.mu is held.
func (c *Cache) refresh(h keystore.Hash, now time.Duration) {
	if c.flights[h] != nil {
		return
	}
	if _, err := c.startLookup(h, now, knownHash); err == nil {
		c.stats.Refreshes++
	}
}

// startLookup starts a lookup, or returns an error if it cannot; c.mu is held.
func (c *Cache) startLookup(h keystore.Hash, now time.Duration, p purpose) (*flight, error) {
	if c.ctx.Err() != nil {
		return nil, errClosed
	}
	if p != confirmation && c.running[p] >= c.config.Load().MaxInFlight {
		c.stats.Busy++
		return nil, keystore.ErrBusy
	}
	f := &flight{started: now, purpose: p, done: make(chan struct{})}
	c.flights[h] = f
	c.running[p]++
	c.stats.Lookups++
	c.wg.Go(func() {
		f.key, f.err = c.lookup(h)
		c.land(h, f)
	})
	return f, nil
}

// lookup asks the store. It runs in a goroutine of its own, so it recovers from a panic itself.
func (c *Cache) lookup(h keystore.Hash) (k *keystore.Key, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("the key store panicked", "panic", p, "stack", string(debug.Stack()))
			k, err = nil, fmt.Errorf("%w: %v", keystore.ErrPanicked, p)
		}
	}()
	ctx, cancel := context.WithTimeout(c.ctx, c.config.Load().LookupTimeout)
	defer cancel()
	k, err = c.store.Lookup(ctx, h)
	if err == nil && k == nil {
		err = errors.New("the key store returned neither a key nor an error")
	}
	return k, err
}

// land caches the result of a lookup, unless its hash was invalidated in the meantime.
func (c *Cache) land(h keystore.Hash, f *flight) {
	now := c.now()
	took := now - f.started
	failure := f.err
	if errors.Is(f.err, keystore.ErrNotFound) {
		failure = nil // this is an answer
	}
	answered := failure == nil
	if answered && took > c.config.Load().LookupTimeout {
		failure = fmt.Errorf("its answer took %s", took)
	}
	c.recordOutage(now, failure)

	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(f.done)
	c.running[f.purpose]--
	switch {
	case errors.Is(failure, keystore.ErrBusy):
		c.stats.Busy++
	case failure != nil:
		c.stats.Errors++
	}
	if c.flights[h] != f {
		f.outdated = true
		return
	}
	delete(c.flights, h)
	c.keep(h, f, answered, now)
}

// keep caches the result of a lookup that has just ended; c.mu is held.
func (c *Cache) keep(h keystore.Hash, f *flight, answered bool, now time.Duration) {
	if answered {
		c.backlog.pause = 0
	}
	r := c.records.peek(h)
	switch {
	case f.err == nil:
		fresh := record{key: f.key, confirmed: f.started, epoch: c.epoch, used: now}
		if r != nil {
			fresh.used = r.used
		}
		c.unknown.Remove(h)
		c.records.add(h, fresh)
	case answered:
		c.records.remove(h)
		c.unknown.Add(h, negative{until: f.started + c.config.Load().NegativeTTL, epoch: c.epoch})
	case r != nil:
		r.failed = true
		if now-f.started >= c.config.Load().LookupTimeout {
			r.hung = now
		}
		if r.epoch != c.epoch {
			c.confirmLater()
		}
	}
}

// An outage is a period in which the store is unavailable.
type outage struct {
	on atomic.Bool

	mu          sync.Mutex
	since, last time.Duration // its first and its last failed lookup
}

// recordOutage logs the beginning of an outage, and its end: the first answer a second or more after the
// last failure.
func (c *Cache) recordOutage(now time.Duration, err error) {
	o := &c.outage
	if err == nil && !o.on.Load() || c.ctx.Err() != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err != nil && !o.on.Load():
		o.since, o.last = now, now
		o.on.Store(true)
		c.log.Error("the key store is unavailable: cached keys work until max_stale after they were last confirmed, and all others are refused as UNAVAILABLE",
			"error", err, "max_stale", c.config.Load().MaxStale.String())
		c.reportOutage(err)
	case err != nil:
		o.last = now
	case o.on.Load() && now-o.last >= time.Second:
		o.on.Store(false)
		c.log.Info("the key store is available again", "after", (now - o.since).String())
		c.reportOutage(nil)
	}
}

func (c *Cache) reportOutage(err error) {
	if c.onOutage != nil {
		c.onOutage(err)
	}
}

// Stats are counters since the cache was created, and gauges.
type Stats struct {
	Hits         uint64 // lookups answered by a fresh record
	NegativeHits uint64 // lookups answered by a cached unknown hash
	Misses       uint64 // lookups that waited for the store
	Stale        uint64 // lookups answered by an unconfirmed record, as the store was unavailable

	Lookups       uint64 // lookups in the store
	Refreshes     uint64 // those in the background
	Errors        uint64 // those that failed or took longer than LookupTimeout
	Busy          uint64 // lookups in the store that MaxInFlight prevented
	Invalidations uint64

	InFlight    int // lookups in the store
	Records     int
	Negatives   int
	StoreOutage bool // the store is unavailable

	// OldestStale is the age of the oldest of the stale records that were returned recently: how long
	// ago the store confirmed it. It is 0 a minute after the last of them.
	OldestStale time.Duration
}

// Stats returns the current values.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	for _, n := range c.running {
		s.InFlight += n
	}
	s.Records, s.Negatives = c.records.len(), c.unknown.Len()
	s.StoreOutage = c.outage.on.Load()
	if c.now()-c.lastStale >= staleWindow {
		s.OldestStale = 0
	}
	return s
}
