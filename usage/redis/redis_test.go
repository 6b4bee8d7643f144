package redis_test

import (
	"context"
	"testing"

	"github.com/redis/rueidis"

	"extauthz/redisclient/redistest"
	"extauthz/usage"
	"extauthz/usage/redis"
	"extauthz/usage/usagetest"
)

type conn struct{ rueidis.Client }

func (c conn) Do(ctx context.Context, ask func(context.Context, rueidis.Client) rueidis.RedisResult) rueidis.RedisResult {
	return ask(ctx, c.Client)
}

func TestStore(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "no")
	usagetest.Run(t, func(t *testing.T, name string, limits usage.Limits) usage.Store {
		client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}, DisableCache: true})
		if err != nil {
			t.Fatal(err)
		}
		s := redis.New(conn{client}, "{"+t.Name()+name+"}:usage:", limits)
		t.Cleanup(func() { _ = s.Close() })
		return s
	})
}
