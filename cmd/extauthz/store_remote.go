package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"extauthz/config"
	"extauthz/keystore"
	"extauthz/keystore/postgres"
	"extauthz/keystore/redis"
)

// A remote is a store across the network.
type remote interface {
	keystore.Store
	keystore.Editor
	keystore.Watcher
	Ready(ctx context.Context) error
	Close()
}

// openRemote opens the store across the network that the configuration names, and returns what
// people call it.
func openRemote(ctx context.Context, s config.Store, hooks storeHooks) (remote, string, error) {
	switch {
	case s.Postgres != nil:
		r, err := postgres.Open(ctx, postgres.Options{DSN: s.Postgres.DSN, OnBroken: hooks.onBroken, OnChannel: hooks.onChannel})
		if err != nil {
			return nil, "", err
		}
		return r, "postgres", nil
	case s.Redis != nil:
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second) // for the first attempt alone
		defer cancel()
		r, err := redis.Open(ctx, redis.Options{
			URL: s.Redis.URL, Prefix: s.Redis.Prefix,
			OnBroken: hooks.onBroken, OnChannel: hooks.onChannel, OnWarning: hooks.onWarning,
		})
		if err != nil {
			return nil, "", err
		}
		return r, "redis", nil
	}
	return nil, "", errNoStore
}

// cache puts a cache in front of a store across the network, and lets the store's changes
// reach it. A store in memory is left as it is.
func (s *store) cache(c config.Cache, log *slog.Logger) error {
	if s.remote == nil {
		return nil
	}
	cache, err := keystore.NewCache(s.remote, keystore.CacheConfig{
		Size: c.Size, TTL: c.TTL, MaxStale: c.MaxStale, NegativeSize: c.NegativeSize, NegativeTTL: c.NegativeTTL,
		MaxInFlight: c.MaxInFlight, LookupTimeout: c.LookupTimeout, Log: log,
	})
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	s.Store = cache
	s.cacheStats = cache.Stats
	s.watch = func(ctx context.Context) error { return s.remote.Watch(ctx, cache) }
	s.reload = func(ctx context.Context) error {
		// While the store is out of reach, what is cached is all there is.
		if err := askReady(ctx, s); err != nil {
			log.Warn("the cache is kept as it is, for the key store cannot be asked", "error", oneLine(err))
			return err
		}
		cache.InvalidateAll()
		log.Info("every key is asked for again")
		return nil
	}
	s.close = func() { cache.Close(); s.remote.Close() }
	return nil
}

const (
	readyTimeout = 2 * time.Second
	readyEvery   = 250 * time.Millisecond
)

func askReady(ctx context.Context, s *store) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return s.ready(ctx)
}

// awaitReady tells why the store cannot be asked, after each attempt, and nil once it can be.
// Then it ends, as it does with ctx.
func awaitReady(ctx context.Context, s *store, tell chan<- error) {
	for {
		err := askReady(ctx, s)
		select {
		case <-ctx.Done():
			return
		case tell <- err:
		}
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(readyEvery):
		}
	}
}

// oneLine returns the error's text without its line breaks.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// A storeLog tells of what happens in a store, on the log and in the metrics.
type storeLog struct {
	log     *slog.Logger
	metrics *storeMetrics
	ttl     time.Duration
	lines   sample
}

func (l *storeLog) broken(id string, err error) {
	l.metrics.broken.Inc()
	if l.lines.take(time.Now().Unix()) {
		l.log.Error("a key's record cannot be read whole, so it is refused", "key_id", id, "error", clip(oneLine(err)))
	}
}

func (l *storeLog) channel(up bool, err error) {
	if up {
		l.metrics.channel.Set(1)
		l.log.Info("the key store tells of changes: they are live at once")
		return
	}
	l.metrics.channel.Set(0)
	l.log.Warn("the key store does not tell of changes: until it does, one may take as long as the cache's ttl", "ttl", l.ttl, "error", clip(oneLine(err)))
}

func (l *storeLog) warning(err error) {
	l.log.Warn("the key store is set so that keys may be lost", "error", clip(oneLine(err)))
}
