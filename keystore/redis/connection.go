package redis

import (
	"context"

	"github.com/redis/rueidis"
)

// A Connection is a client of a Redis for what is not a store of keys. It connects by itself
// as soon as it can, and again when it must. It is safe for concurrent use.
type Connection struct{ link link }

// Connect returns a connection to the Redis that the URL names, as [Options] describes it. It
// returns when the first try to connect ended or ctx did; an error says that the URL cannot be
// used, not that the server is down.
func Connect(ctx context.Context, url string) (*Connection, error) {
	option, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	c := new(Connection)
	c.link.dial(ctx, option)
	return c, nil
}

// Do makes one call, on another goroutine, and waits for its answer until ctx ends. The context
// that call gets outlives ctx. It fails at once where as many calls as may be are unanswered.
func (c *Connection) Do(ctx context.Context, call func(context.Context, rueidis.Client) rueidis.RedisResult) rueidis.RedisResult {
	return c.link.do(ctx, call)
}

// Close ends the connection.
func (c *Connection) Close() { c.link.close() }
