package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// A Config says how much a [Cache] keeps and for how long. [DefaultConfig] is a
// sound one to start from.
type Config struct {
	Size     int           // records kept
	TTL      time.Duration // how long a record answers after the store confirmed it
	MaxStale time.Duration // the same, while the store cannot be reached; 0: not at all past TTL

	NegativeSize int           // unknown hashes kept, apart from the records
	NegativeTTL  time.Duration // how long an unknown hash is refused without asking; 0: not at all

	// MaxInFlight bounds the look-ups under way for hashes that the cache knows nothing of,
	// and as many again for records that are to be confirmed: a flood of random secrets
	// cannot keep a revoked key's record from being asked for. Past it the answer is
	// ErrBusy at once.
	MaxInFlight int

	// LookupTimeout bounds one look-up, and how long anyone waits for it. It must be shorter
	// than the timeout of whoever waits for the decision, which is 200 ms in Envoy unless it
	// is set, so that there is still time to answer with a stale record.
	LookupTimeout time.Duration

	Log *slog.Logger // where outages are told; nil: nowhere
}

// DefaultConfig returns what an operator who sets nothing gets.
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

// Validate reports everything that is wrong with the sizes and times, by the names they have
// in the configuration.
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
