package redis_test

import (
	"testing"

	"extauthz/redisclient"
	"extauthz/redisclient/redistest"
	"extauthz/usage"
	"extauthz/usage/redis"
	"extauthz/usage/usagetest"
)

func TestStore(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "no")
	usagetest.Run(t, func(t *testing.T, name string, limits usage.Limits) usage.Store {
		client, err := redisclient.Connect(t.Context(), server.URL())
		if err != nil {
			t.Fatal(err)
		}
		s := redis.New(client, "{"+t.Name()+name+"}:usage:", limits)
		t.Cleanup(func() { _ = s.Close() })
		return s
	})
}
