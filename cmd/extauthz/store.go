package main

import (
	"context"
	"errors"
	"iter"

	"extauthz/config"
	"extauthz/keystore"
	"extauthz/keystore/yamlfile"
	"extauthz/strictyaml"
)

// A store is the open store of keys, and what the commands need of it beside look-ups. None of
// its functions is nil.
type store struct {
	keystore.Store

	name       string // for people; without a password
	remote     remote // nil where the keys are in memory
	len        func() int
	keys       func(context.Context) iter.Seq2[*keystore.Key, error] // all of them
	warnings   func() strictyaml.Errors
	reload     func(context.Context) error
	watch      func(context.Context) error // follows changes until the context ends
	ready      func(context.Context) error // why keys cannot be looked up now
	cacheStats func() keystore.CacheStats
	close      func()
}

// storeHooks hear of what happens in a store while it is open. Each may be nil.
type storeHooks struct {
	onReload  func(keys int, err error)  // all keys were read again: how many there are now, or why the new ones were not taken
	onBroken  func(id string, err error) // a look-up found a record that cannot be read whole
	onChannel func(up bool, err error)   // what tells of changes has come up, or gone down
	onWarning func(err error)            // the server is a doubtful place for keys as it is set
}

// openStore opens the store that the configuration names, without a cache. Where its server
// cannot be reached, that is no error: ready tells.
//
// A new kind of store is one case here, or in openRemote.
func openStore(ctx context.Context, cfg *config.Config, hooks storeHooks) (*store, error) {
	if s := cfg.Store.YAML; s != nil {
		return openYAML(s.Path, hooks)
	}
	r, name, err := openRemote(ctx, cfg.Store, hooks)
	if err != nil {
		return nil, err
	}
	return &store{
		Store:      r,
		name:       name,
		remote:     r,
		keys:       func(ctx context.Context) iter.Seq2[*keystore.Key, error] { return r.Keys(ctx, "") },
		len:        func() int { return 0 }, // to count them would be to read them all
		warnings:   func() strictyaml.Errors { return nil },
		reload:     func(context.Context) error { return nil },
		watch:      func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, // nothing is kept
		ready:      r.Ready,
		cacheStats: func() keystore.CacheStats { return keystore.CacheStats{} },
		close:      r.Close,
	}, nil
}

var errNoStore = errors.New("no store of keys is named: write `store: {yaml: {path: keys.yaml}}` in the configuration, or give --keys")

// openEditor opens what changes the keys in the store that the configuration names, and
// returns what closes it.
func openEditor(ctx context.Context, cfg *config.Config) (keystore.Editor, func(), error) {
	if s := cfg.Store.YAML; s != nil {
		return yamlfile.NewEditor(s.Path), func() {}, nil
	}
	r, _, err := openRemote(ctx, cfg.Store, storeHooks{})
	if err != nil {
		return nil, nil, err
	}
	return r, r.Close, nil
}

// openYAML opens a key file or folder. It is in memory as it is, so that no cache is put in
// front of it.
func openYAML(path string, hooks storeHooks) (*store, error) {
	s, err := yamlfile.Open(path, yamlfile.Options{
		OnReload: func(r yamlfile.Reload) {
			if hooks.onReload != nil {
				hooks.onReload(r.Keys, r.Err)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	return &store{
		Store:      s,
		name:       path,
		keys:       func(ctx context.Context) iter.Seq2[*keystore.Key, error] { return s.Keys(ctx, "") },
		len:        s.Len,
		warnings:   s.Warnings,
		reload:     func(context.Context) error { return s.Reload() },
		watch:      func(ctx context.Context) error { return s.Watch(ctx, nil) },
		ready:      func(context.Context) error { return nil },
		cacheStats: func() keystore.CacheStats { return keystore.CacheStats{} },
		close:      func() {},
	}, nil
}
