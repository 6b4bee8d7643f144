package cache

import (
	"time"

	"extauthz/keystore"
)

const (
	// confirmations bounds the lookups of the backlog in flight. It is small compared to a
	// store's connections, so that the backlog does not delay callers.
	confirmations = 2

	backlogSize = 1024 // hashes; beyond it all records are searched

	// searchStep is how many records are searched without releasing the mutex.
	searchStep = 256

	// The backlog pauses for so long after a lookup failed.
	pauseFirst   = 100 * time.Millisecond
	pauseLongest = time.Second
)

// A backlog is the set of invalidated records to confirm in the background: first changed, then what
// the cursor of the records has not reached yet. The cache's mutex guards all fields but wake.
type backlog struct {
	wake    chan struct{}   // holds a value if there may be records to confirm
	changed []keystore.Hash // known to have changed
	failed  bool            // a lookup failed: pause, then search all records again
	pause   time.Duration   // the length of the last pause; 0: the store has answered since
	resume  time.Duration   // when the current pause ends; 0: there is none
}

// confirmSoon adds one record to the backlog; c.mu is held.
func (c *Cache) confirmSoon(h keystore.Hash) {
	b := &c.backlog
	if len(b.changed) >= backlogSize {
		b.changed = b.changed[:0]
		c.records.rewind()
	} else {
		b.changed = append(b.changed, h)
	}
	c.wakeBacklog()
}

// confirmAllSoon adds all records to the backlog; c.mu is held.
func (c *Cache) confirmAllSoon() {
	c.backlog.changed = c.backlog.changed[:0]
	c.records.rewind()
	c.wakeBacklog()
}

// confirmLater adds all records to the backlog after a pause; c.mu is held.
func (c *Cache) confirmLater() {
	c.backlog.failed = true
	c.wakeBacklog()
}

func (c *Cache) wakeBacklog() {
	select {
	case c.backlog.wake <- struct{}{}:
	default:
	}
}

// confirmBacklog confirms the records of the backlog until the cache is closed.
func (c *Cache) confirmBacklog() {
	slots := make(chan struct{}, confirmations)
	for {
		select {
		case <-c.ctx.Done():
			return
		case slots <- struct{}{}:
		}
		f, more, pause := c.confirmNext()
		if f != nil {
			c.wg.Go(func() { <-f.done; <-slots })
			continue
		}
		<-slots
		if more {
			continue
		}
		var timer <-chan time.Time
		wake := c.backlog.wake
		if pause > 0 {
			timer, wake = time.After(pause), nil
		}
		select {
		case <-c.ctx.Done():
			return
		case <-timer:
		case <-wake:
		}
	}
}

// confirmNext starts the next lookup of the backlog. If it starts none, more reports that the search
// goes on, and pause how long the backlog pauses; otherwise the backlog is empty.
func (c *Cache) confirmNext() (f *flight, more bool, pause time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.backlog
	now, config := c.now(), c.config.Load()
	if b.failed && b.resume == 0 {
		b.pause = min(max(2*b.pause, pauseFirst), pauseLongest)
		b.resume = now + b.pause
	}
	if b.resume > 0 {
		if now < b.resume {
			return nil, false, b.resume - now
		}
		b.failed, b.resume, b.changed = false, 0, nil
		c.records.rewind()
	}
	for range searchStep {
		h, r := c.nextUnconfirmed()
		if r == nil {
			return nil, false, 0
		}
		if r.epoch == c.epoch || now-r.used >= max(config.TTL, config.MaxStale) || c.flights[h] != nil {
			continue
		}
		f, err := c.startLookup(h, now, confirmation)
		if err != nil { // the cache is closed
			return nil, false, 0
		}
		c.stats.Refreshes++
		return f, false, 0
	}
	return nil, true, 0
}

// nextUnconfirmed removes the next record from the backlog and returns it, or nil. The record may have
// been confirmed in the meantime. c.mu is held.
func (c *Cache) nextUnconfirmed() (keystore.Hash, *record) {
	b := &c.backlog
	for len(b.changed) > 0 {
		h := b.changed[0]
		b.changed = b.changed[1:]
		if r := c.records.peek(h); r != nil {
			return h, r
		}
	}
	b.changed = nil
	return c.records.next()
}
