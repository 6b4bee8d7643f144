package keystore

import (
	"context"
	"time"
)

// Counts are the numbers of keys that may need attention.
type Counts struct {
	Report        int // in report mode
	ExpiringWeek  int // that expire within the next 7 days
	ExpiringMonth int // that expire within the next 30 days
}

// Periods of [Counts].
const (
	Week  = 7 * 24 * time.Hour
	Month = 30 * 24 * time.Hour
)

// Add counts the key.
func (c *Counts) Add(k *Key, now time.Time) {
	if k.Whitelist.Restricted() && k.WhitelistMode == Report && k.Broken == nil {
		c.Report++
	}
	if k.Expires.IsZero() || k.ExpiredAt(now) {
		return
	}
	if !k.Expires.After(now.Add(Week)) {
		c.ExpiringWeek++
	}
	if !k.Expires.After(now.Add(Month)) {
		c.ExpiringMonth++
	}
}

// A Counter is an [Editor] that can count its keys without reading all of them.
type Counter interface {
	// Count returns the counts at now.
	Count(ctx context.Context, now time.Time) (Counts, error)
}

// countStep is how many keys Count reads before it pauses.
const countStep = 200

// Count returns the counts at now. If the editor is not a [Counter], Count reads all keys, with
// pauses of the given length, so that others can use the store.
func Count(ctx context.Context, e Editor, now time.Time, rest time.Duration) (Counts, error) {
	if c, ok := e.(Counter); ok {
		return c.Count(ctx, now)
	}
	var counts Counts
	n := 0
	for k, err := range e.Keys(ctx, "") {
		if err != nil {
			return Counts{}, err
		}
		counts.Add(k, now)
		if n++; n%countStep == 0 {
			select {
			case <-ctx.Done():
				return Counts{}, ctx.Err()
			case <-time.After(rest):
			}
		}
	}
	return counts, nil
}
