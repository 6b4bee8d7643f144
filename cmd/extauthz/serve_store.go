package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// openStore opens the store of keys, with a cache in front of one across the network, and lets
// the log and the metrics hear of it.
func (s *server) openStore(ctx context.Context) (*store, error) {
	l := &storeLog{log: s.log, metrics: newStoreMetrics(), ttl: s.cfg.Cache.TTL}
	store, err := openStore(ctx, s.cfg, storeHooks{
		onReload: s.reloaded, onBroken: l.broken, onChannel: l.channel, onWarning: l.warning,
	})
	if err != nil {
		return nil, err
	}
	if err := store.cache(s.cfg.Cache, s.log); err != nil {
		store.close()
		return nil, err
	}
	s.metrics.watch(store, l.metrics)
	return store, nil
}

// followStore follows the store's changes and, where it is across the network, tells on ready
// whether it can be asked. Keys in memory can be looked up at once.
func (s *server) followStore(ctx context.Context, wg *sync.WaitGroup, store *store, failed chan<- error) (ready <-chan error) {
	wg.Go(func() {
		if err := store.watch(ctx); ctx.Err() == nil {
			failed <- fmt.Errorf("following the keys: %w", err)
		}
	})
	if store.remote == nil {
		s.serving()
		return nil
	}
	s.notServing("starting: the key store was not asked yet")
	tell := make(chan error)
	wg.Go(func() { awaitReady(ctx, store, tell) })
	return tell
}

// storeReady is told, while the server is not ready yet, why the store cannot be asked, and nil
// once it can be. After that the server stays ready until it stops, whatever becomes of the
// store: what is cached goes on, and to take all replicas away at once would end that.
func (s *server) storeReady(err error) {
	if err == nil {
		s.serving()
		if s.storeDown {
			s.log.Info("the key store can be asked: ready")
		}
		return
	}
	why := clip(oneLine(err))
	s.notServing("the key store cannot be asked: " + why)
	if !s.storeDown {
		s.storeDown = true
		s.log.Error("the key store cannot be asked: not ready until it can be", "error", why)
	}
}

// reloaded is told each time the keys were read again.
func (s *server) reloaded(keys int, err error) {
	s.metrics.reload(err, time.Now())
	if err != nil {
		s.log.Error("the keys were not read again, the last good ones stay", "error", clip(err.Error()))
		return
	}
	s.log.Info("the keys were read again", "keys", keys)
}
