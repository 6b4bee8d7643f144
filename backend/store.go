// Package backend opens what a configuration names, for commands and for servers: the key store,
// the rate limiter, the store of usage, the authorizer and the checker.
package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"extauthz/audit"
	"extauthz/config"
	"extauthz/keystore"
	"extauthz/keystore/postgres"
	"extauthz/keystore/redis"
	"extauthz/keystore/yamlfile"
	"extauthz/strictyaml"
)

// A Store is an open key store, without a cache.
type Store interface {
	keystore.Store
	audit.Editor
	keystore.Watcher

	// Ready returns nil if keys can be looked up now, and otherwise the reason.
	Ready(ctx context.Context) error

	Close()
}

// InMemory is implemented by a [Store] that holds all its keys in memory, and so needs no cache.
type InMemory interface {
	// Len returns the number of keys.
	Len() int

	// Reload reads the keys again. If it fails, the keys do not change.
	Reload() error

	// Warnings returns what is valid in the files, but probably a mistake.
	Warnings() strictyaml.Errors
}

// A Reload is the outcome of reading all keys again.
type Reload = yamlfile.Reload

// StoreHooks are called when something happens in an open store. Each may be nil.
type StoreHooks struct {
	OnReload  func(Reload)               // all keys were read again, or that failed
	OnPolling func(error)                // there are no notifications of changes of the key files
	OnBroken  func(id string, err error) // a lookup found a record that cannot be read completely
	OnChannel func(up bool, err error)   // the channel that reports changes came up, or went down
	OnWarning func(err error)            // a setting of the store's server puts keys at risk
}

var errNoStore = errors.New("no key store is configured: write `store: {yaml: {path: keys.yaml}}` in the configuration, or give --keys")

// OpenStore opens the key store. An unreachable server is not an error: see Ready.
//
// A new kind of store needs one case here.
func OpenStore(ctx context.Context, c config.Store, hooks StoreHooks) (Store, error) {
	switch {
	case c.YAML != nil:
		return openFiles(c.YAML.Path, hooks)
	case c.Postgres != nil:
		s, err := postgres.Open(ctx, postgres.Options{
			DSN: c.Postgres.DSN, ListenDSN: c.Postgres.Listen,
			OnBroken: hooks.OnBroken, OnChannel: hooks.OnChannel, OnWarning: hooks.OnWarning,
		})
		if err != nil {
			return nil, err
		}
		return s, nil
	case c.Redis != nil:
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		s, err := redis.Open(ctx, redis.Options{
			URL: c.Redis.URL, Prefix: c.Redis.Prefix,
			OnBroken: hooks.OnBroken, OnChannel: hooks.OnChannel, OnWarning: hooks.OnWarning,
		})
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	return nil, errNoStore
}

// connectTimeout limits the first attempt to connect to Redis; later ones run in the background.
const connectTimeout = 3 * time.Second

// keyFiles is a key file, or a folder of them, as a [Store].
type keyFiles struct{ *yamlfile.Store }

func (keyFiles) Ready(context.Context) error { return nil }
func (keyFiles) Close()                      {}

func openFiles(path string, hooks StoreHooks) (Store, error) {
	s, err := yamlfile.Open(path, yamlfile.Options{OnReload: hooks.OnReload, OnPolling: hooks.OnPolling})
	if err != nil {
		return nil, err
	}
	return keyFiles{s}, nil
}

// An Editor changes the keys of a store.
type Editor interface {
	audit.Editor
	Close()
}

// OpenEditor opens the key store for changes, which it logs as configured. A key file need not exist
// yet.
func OpenEditor(ctx context.Context, c *config.Config, stderr io.Writer) (Editor, error) {
	log := AuditLog(c.Audit, stderr)
	if c.Store.YAML != nil {
		return editor{audit.Logged(yamlfile.NewEditor(c.Store.YAML.Path), log), func() {}}, nil
	}
	s, err := OpenStore(ctx, c.Store, StoreHooks{})
	if err != nil {
		return nil, err
	}
	return editor{audit.Logged(s, log), s.Close}, nil
}

type editor struct {
	audit.Editor
	close func()
}

func (e editor) Close() { e.close() }

// AuditLog returns the log of edits, or nil if none is configured. It reports failures on stderr.
func AuditLog(c config.Audit, stderr io.Writer) *audit.Log {
	log := &audit.Log{Path: c.Path, OnError: func(err error) { fmt.Fprintf(stderr, "warning: %v\n", err) }}
	switch c.Path {
	case config.AuditNowhere:
		return nil
	case config.AuditStderr:
		log.Path, log.Writer = "", stderr
	}
	return log
}

// AskReady calls the store's Ready with a short timeout.
func AskReady(ctx context.Context, s Store) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return s.Ready(ctx)
}

const readyTimeout = 2 * time.Second
