package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// A Config sets the sizes and times of a [Cache]. Start from [DefaultConfig].
type Config struct {
	Size     int           // cached records
	TTL      time.Duration // how long a record is fresh after the store confirmed it
	MaxStale time.Duration // how long it is used during an outage, from then; 0: no longer than TTL

	NegativeSize int           // cached unknown hashes, apart from the records
	NegativeTTL  time.Duration // how long an unknown hash is cached; 0: not at all

	// MaxInFlight bounds the lookups in flight for hashes without a cached record, and, apart
	// from these, those for hashes with one: a flood of random secrets cannot delay the lookup of
	// a revoked key. Beyond it lookups fail with ErrBusy at once.
	MaxInFlight int

	// LookupTimeout bounds one lookup, and how long a caller waits for it. It must be shorter
	// than the caller's own timeout (Envoy's default is 200 ms), so that there is time left to
	// reply with a stale record.
	LookupTimeout time.Duration

	Log *slog.Logger // for outages; nil: they are not logged

	// OnWait, if non-nil, is called when a caller begins to wait for a lookup in the store, with the
	// caller's context. What it returns, if non-nil, is called when the caller has waited, with the error
	// of the lookup; nil for an unknown hash.
	OnWait func(context.Context) func(error)

	// OnOutage, if non-nil, is called when an outage begins, with its first error, and with nil when it
	// ends. It must not call the cache.
	OnOutage func(error)
}

// DefaultConfig returns the defaults of the configuration file.
func DefaultConfig() Config {
	return Config{
		Size:          100_000,
		TTL:           time.Minute,
		MaxStale:      10 * time.Minute,
		NegativeSize:  10_000,
		NegativeTTL:   5 * time.Second,
		MaxInFlight:   1024,
		LookupTimeout: 150 * time.Millisecond,
	}
}

// Validate reports all invalid sizes and times, by their names in the configuration file.
func (c Config) Validate() error {
	var errs []error
	atLeast := func(field string, ok bool, got any, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %v: write %s", field, got, want))
		}
	}
	atLeast("size", c.Size >= 1, c.Size, "at least 1")
	atLeast("ttl", c.TTL > 0, c.TTL, "a time above 0s, such as 1m")
	atLeast("max_stale", c.MaxStale >= 0, c.MaxStale, "0s for never, or a time such as 10m")
	atLeast("negative_size", c.NegativeSize >= 1, c.NegativeSize, "at least 1")
	atLeast("negative_ttl", c.NegativeTTL >= 0, c.NegativeTTL, "0s for never, or a time such as 5s")
	atLeast("max_in_flight", c.MaxInFlight >= 1, c.MaxInFlight, "at least 1")
	atLeast("lookup_timeout", c.LookupTimeout > 0, c.LookupTimeout, "a time above 0s, such as 150ms")
	return errors.Join(errs...)
}
