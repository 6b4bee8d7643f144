package backend

import (
	"context"
	"errors"

	"extauthz/config"
	keyspostgres "extauthz/keystore/postgres"
	keysredis "extauthz/keystore/redis"
	"extauthz/redisclient"
	"extauthz/usage"
	"extauthz/usage/boltfile"
	"extauthz/usage/postgres"
	"extauthz/usage/redis"
)

// usageConns is the number of connections to Postgres for usage, which are separate from those of
// lookups.
const usageConns = 2

// ErrNoUsage means that the configuration does not say where usage is stored.
var ErrNoUsage = errors.New("usage is not recorded: write `usage: {record: true, path: usage.db}` in the configuration")

// OpenUsage opens the store of usage. An unreachable server is not an error: calls fail until it
// answers.
//
// A new kind of store needs one case here.
func OpenUsage(ctx context.Context, c *config.Config) (usage.Store, error) {
	limits := usage.Limits{AddressesPerKey: c.Usage.AddressesPerKey, Retention: c.Usage.Retention}
	switch {
	case c.Store.YAML != nil && c.Usage.Path != "":
		return boltfile.Open(c.Usage.Path, limits), nil
	case c.Store.Postgres != nil:
		pool, failure, err := keyspostgres.OpenPool(ctx, c.Store.Postgres.DSN, usageConns)
		if err != nil {
			return nil, err
		}
		return postgres.New(pool, failure, limits), nil
	case c.Store.Redis != nil:
		prefix, err := keysredis.TaggedPrefix(c.Store.Redis.Prefix)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		client, err := redisclient.Connect(ctx, c.Store.Redis.URL)
		if err != nil {
			return nil, err
		}
		return redis.New(client, prefix+"usage:", limits), nil
	}
	return nil, ErrNoUsage
}
