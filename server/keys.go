package server

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"extauthz/backend"
	"extauthz/config"
	"extauthz/keystore"
	"extauthz/keystore/cache"
	"extauthz/strictyaml"
	"extauthz/tracing"
)

// keys is the store of keys, with a cache if it is remote.
type keys struct {
	keystore.Store // serves look-ups: the cache, if there is one

	store backend.Store
	files backend.InMemory // nil if the keys are not in memory
	cache *cache.Cache     // nil if they are
	count *keyCount
	log   *slog.Logger

	channel *atomic.Bool // whether the store reports changes
}

// reportsChanges reports whether changes of keys are live at once.
func (k *keys) reportsChanges() bool { return k.files != nil || k.channel.Load() }

// openKeys opens the store of keys, and connects it to the log and the metrics.
func (s *server) openKeys(ctx context.Context, cfg *config.Config) (*keys, error) {
	l := &storeLog{log: s.log, metrics: newStoreMetrics(), status: &s.status}
	count := newKeyCount(s.log)
	store, err := backend.OpenStore(ctx, cfg.Store, backend.StoreHooks{
		OnReload:  func(r backend.Reload) { s.reloaded(r); count.recount() },
		OnPolling: s.polling, OnBroken: l.broken, OnChannel: l.channel, OnWarning: l.warning,
	})
	if err != nil {
		return nil, err
	}
	k := &keys{Store: store, store: store, count: count, log: s.log, channel: &l.up}
	var ok bool
	if k.files, ok = store.(backend.InMemory); !ok {
		c := cacheConfig(cfg.Cache)
		c.Log, c.OnOutage, c.OnWait = s.log, s.status.storeAnswered, tracing.Lookup
		k.cache, err = cache.New(store, c)
		if err != nil {
			store.Close()
			return nil, fmt.Errorf("cache: %w", err)
		}
		k.Store = k.cache
	} else {
		count.recount()
	}
	s.metrics.registry.MustRegister(count)
	s.metrics.keys.loaded()
	s.metrics.addStore(k, l.metrics)
	s.status.opened(cfg.Store, k.files != nil, func(ctx context.Context) error { return backend.AskReady(ctx, store) }, k.cacheStats)
	return k, nil
}

func (k *keys) close() {
	if k.cache != nil {
		k.cache.Close()
	}
	k.store.Close()
}

func (k *keys) warnings() strictyaml.Errors {
	if k.files == nil {
		return nil
	}
	return k.files.Warnings()
}

// watch follows changes until ctx ends.
func (k *keys) watch(ctx context.Context) error {
	if k.cache == nil {
		return k.store.Watch(ctx, nil)
	}
	return k.store.Watch(ctx, recounting{k.cache, k.count})
}

// LookupMemory implements [keystore.MemoryStore].
func (k *keys) LookupMemory(h keystore.Hash) (key *keystore.Key, stale bool, err error) {
	if k.cache != nil {
		return k.cache.LookupMemory(h)
	}
	key, err = k.Lookup(context.Background(), h) // which is in memory
	return key, false, err
}

// reload reads key files again, or invalidates all cached records of a remote store.
func (k *keys) reload(ctx context.Context) error {
	if k.files != nil {
		return k.files.Reload()
	}
	// While the store is unavailable, only cached records are left.
	if err := backend.AskReady(ctx, k.store); err != nil {
		k.log.Warn("the cache is not invalidated: the key store does not answer", "error", oneLine(err))
		return err
	}
	k.cache.InvalidateAll()
	k.log.Info("every cached key is looked up again")
	return nil
}

func (k *keys) cacheStats() cache.Stats {
	if k.cache == nil {
		return cache.Stats{}
	}
	return k.cache.Stats()
}

// followKeys follows changes in the store. For a remote store, it sends on ready why the store does not
// answer, and nil once it does. Keys in memory are ready at once.
func (s *server) followKeys(ctx context.Context) (ready <-chan error) {
	go s.keys.count.run(ctx, s.keys.store)
	go func() {
		if err := s.keys.watch(ctx); ctx.Err() == nil {
			s.failed <- fmt.Errorf("following the keys: %w", err)
		}
	}()
	if s.keys.files != nil {
		s.serving()
		return nil
	}
	s.notServing("starting: the key store has not answered yet")
	outcome := make(chan error)
	go awaitReady(ctx, s.keys.store, outcome)
	return outcome
}

// reloadKeysOnRequest reloads the keys on each call of reload, until ctx ends.
func (s *server) reloadKeysOnRequest(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.reloadKeys:
			s.log.Info("reloading the keys")
			_ = s.keys.reload(ctx) // reloaded logs the outcome
		}
	}
}

const readyEvery = 250 * time.Millisecond

// awaitReady asks the store repeatedly whether it is ready, and sends each error. It sends nil and returns
// once the store is ready, or returns when ctx ends.
func awaitReady(ctx context.Context, s backend.Store, outcome chan<- error) {
	for {
		err := backend.AskReady(ctx, s)
		select {
		case <-ctx.Done():
			return
		case outcome <- err:
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

// storeAnswered makes the server ready once the store has answered. From then on it stays ready until it
// stops, even if the store becomes unavailable: cached keys still work, and would not if all replicas were
// removed from rotation immediately.
func (s *server) storeAnswered(err error) {
	s.status.storeAnswered(err)
	if err == nil {
		s.serving()
		if s.storeDown {
			s.log.Info("the key store answers: ready")
		}
		return
	}
	why := clip(oneLine(err))
	s.notServing("the key store does not answer: " + why)
	if !s.storeDown {
		s.storeDown = true
		s.log.Error("the key store does not answer: not ready until it does", "error", why)
	}
}

// reloaded is called after each reload of the keys.
func (s *server) reloaded(r backend.Reload) {
	s.metrics.keys.reload(r.Err)
	s.status.keysRead(r.Err)
	switch {
	case r.Repeated:
	case r.Err != nil:
		s.log.Error("reloading the keys failed: the last good ones stay", "error", clip(r.Err.Error()))
	case r.Keys == 0 && r.Before > 0:
		s.log.Warn("reloaded the keys: none is left, so every request is refused", "keys_before", r.Before)
	default:
		s.log.Info("reloaded the keys", "keys", r.Keys)
	}
}

// polling is called when the system cannot report changes of the key files.
func (s *server) polling(err error) {
	s.status.channelChanged(false, err)
	s.log.Warn("cannot watch the key files: polling them for changes", "error", err.Error())
}

// A storeLog logs and counts events of a remote store.
type storeLog struct {
	log     *slog.Logger
	metrics *storeMetrics
	status  *status
	lines   throttle
	up      atomic.Bool // the channel of changes
}

func (l *storeLog) broken(id string, err error) {
	l.metrics.broken.Inc()
	if l.lines.allow(time.Now()) {
		l.log.Error("a key's record cannot be read whole, so it is refused", "key_id", id, "error", clip(oneLine(err)))
	}
}

func (l *storeLog) channel(up bool, err error) {
	l.up.Store(up)
	l.status.channelChanged(up, err)
	if up {
		l.metrics.channel.Set(1)
		l.log.Info("the key store reports changes: they are live at once")
		return
	}
	l.metrics.channel.Set(0)
	l.log.Warn("the key store does not report changes: until it does, a change may take as long as cache.ttl", "error", clip(oneLine(err)))
}

func (l *storeLog) warning(err error) {
	l.log.Warn("suspicious key store", "error", clip(oneLine(err)))
}
