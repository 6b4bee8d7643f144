package redis

import (
	"context"
	"testing"
	"time"

	"extauthz/audit"
	"extauthz/audit/audittest"
	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/redisclient/redistest"
)

// open opens a store that closes with the test.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// fresh returns a function that opens an empty store at each call.
func fresh(url string, flush func()) func(*testing.T) storetest.Backend {
	return func(t *testing.T) storetest.Backend {
		flush()
		return open(t, Options{URL: url})
	}
}

func TestSingle(t *testing.T) {
	r := redistest.Start(t)
	backend := fresh(r.URL(), func() { r.CLI("FLUSHALL") })
	storetest.Run(t, backend)
	storetest.RunWatcher(t, backend)
	audittest.Run(t, func(t *testing.T) audit.Editor { return backend(t).(*Store) })
}

func TestStoreBehindACache(t *testing.T) {
	server := redistest.Start(t)
	backend := func(t *testing.T) storetest.Backend {
		server.CLI("FLUSHALL")
		r := newReplica(t, server.URL())
		r.awaitUp(t, 1)
		return struct {
			keystore.Store
			keystore.Editor
		}{r.cache, r.Store}
	}
	storetest.Run(t, backend)
}

func TestUnixSocket(t *testing.T) {
	r := redistest.Start(t)
	storetest.Run(t, fresh("unix://"+r.Socket(), func() { r.CLI("FLUSHALL") }))
}

func TestSentinels(t *testing.T) {
	t.Parallel()
	r := redistest.StartSentinels(t)
	backend := fresh(r.URL(), func() { r.Master.CLI("FLUSHALL") })
	storetest.Run(t, backend)
	storetest.RunWatcher(t, backend)
}

func TestCluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	backend := fresh(c.URL(), func() {
		for _, n := range c.Nodes {
			n.CLI("FLUSHALL")
		}
	})
	storetest.Run(t, backend)
	storetest.RunWatcher(t, backend)
	audittest.Run(t, func(t *testing.T) audit.Editor { return backend(t).(*Store) })
}

// within returns a context that is generous even on a busy machine.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
