package main

import (
	"context"
	"errors"

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
	len        func() int
	warnings   func() strictyaml.Errors
	reload     func(context.Context) error
	watch      func(context.Context) error // follows changes until the context ends
	cacheStats func() keystore.CacheStats
	close      func()
}

// openStore opens the store that the configuration names. onReload, where set, is told each
// time that all keys were read again: how many there are now, and why the new ones were not
// taken.
//
// A new kind of store is one case here.
func openStore(_ context.Context, cfg *config.Config, onReload func(keys int, err error)) (*store, error) {
	switch s := cfg.Store; {
	case s.YAML != nil:
		return openYAML(s.YAML.Path, onReload)
	default:
		return nil, errNoStore
	}
}

var errNoStore = errors.New("no store of keys is named: write `store: {yaml: {path: keys.yaml}}` in the configuration, or give --keys")

// openEditor opens what changes the keys in the store that the configuration names, and
// returns what closes it.
//
// A new kind of store is one case here.
func openEditor(_ context.Context, cfg *config.Config) (keystore.Editor, func(), error) {
	switch s := cfg.Store; {
	case s.YAML != nil:
		return yamlfile.NewEditor(s.YAML.Path), func() {}, nil
	default:
		return nil, nil, errNoStore
	}
}

// openYAML opens a key file or folder. It is in memory as it is, so that no cache is put in
// front of it.
func openYAML(path string, onReload func(int, error)) (*store, error) {
	if onReload == nil {
		onReload = func(int, error) {}
	}
	s, err := yamlfile.Open(path, yamlfile.Options{
		OnReload: func(r yamlfile.Reload) { onReload(r.Keys, r.Err) },
	})
	if err != nil {
		return nil, err
	}
	return &store{
		Store:      s,
		name:       path,
		len:        s.Len,
		warnings:   s.Warnings,
		reload:     func(context.Context) error { return s.Reload() },
		watch:      func(ctx context.Context) error { return s.Watch(ctx, nil) },
		cacheStats: func() keystore.CacheStats { return keystore.CacheStats{} },
		close:      func() {},
	}, nil
}
