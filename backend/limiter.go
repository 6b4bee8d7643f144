package backend

import (
	"context"
	"fmt"
	"time"

	"extauthz/config"
	"extauthz/ratelimit"
	"extauthz/ratelimit/memory"
	"extauthz/ratelimit/redis"
)

// A Limiter counts what is spent under rate limits.
type Limiter interface {
	ratelimit.Limiter
	Close()
}

// OpenLimiter opens what counts rate limits. A server that is out of reach is not an error: the
// limiter answers as soon as the server does.
//
// A new kind of limiter is one case here.
func OpenLimiter(ctx context.Context, c config.Ratelimit) (Limiter, error) {
	if c.Store != config.LimitsInRedis {
		return inMemory{memory.New(time.Now)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	l, err := redis.Open(ctx, redis.Options{URL: c.URL, Prefix: c.Prefix, Timeout: c.Timeout})
	if err != nil {
		return nil, fmt.Errorf("ratelimit: %w", err)
	}
	return l, nil
}

type inMemory struct{ *memory.Limiter }

func (inMemory) Close() {}
