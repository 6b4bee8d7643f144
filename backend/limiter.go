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

// A Limiter is an open rate limiter.
type Limiter interface {
	ratelimit.Limiter
	Close()
}

// OpenLimiter opens the rate limiter. An unreachable server is not an error: the limiter works as
// soon as the server answers.
//
// A new kind of limiter needs one case here.
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
