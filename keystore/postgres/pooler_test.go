package postgres

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/polltest"
)

// A store works through a pooler in any mode, with a plain DSN.
func TestStoreThroughAPooler(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"session", "transaction", "statement"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			lookupsThrough(t, mode)
			if mode != "transaction" { // the statement mode supports no edits
				return
			}
			p := server.StartPooler(t, mode, 8)
			storetest.Run(t, func(t *testing.T) storetest.Backend {
				return open(t, Options{DSN: server.URL(freshDatabase(t, server), p.Addr())})
			})
		})
	}
}

// lookupsThrough makes cold lookups from several stores at once, which share the few connections of a
// pooler. None may fail.
func lookupsThrough(t *testing.T, mode string) {
	t.Helper()
	db := freshDatabase(t, server)
	keys := make([]*keystore.Key, 200)
	for i := range keys {
		keys[i] = storetest.NewKey(fmt.Sprintf("key_%d", i))
	}
	must(t, open(t, Options{DSN: server.URL(db, server.Addr())}).Put(t.Context(), keys))
	size := 3
	if mode == "session" {
		size = 40 // one for each of the clients' connections
	}
	p := server.StartPooler(t, mode, size)
	var wg sync.WaitGroup
	for range 4 {
		s := open(t, Options{DSN: server.URL(db, p.Addr())})
		for range 8 {
			wg.Go(func() {
				for _, k := range keys {
					if _, err := s.Lookup(t.Context(), k.Hash); err != nil {
						t.Errorf("%s: %v", k.ID, err)
						return
					}
				}
				if err := s.Ready(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
}

// LISTEN silently fails through a pooler in transaction mode: the channel must not be up.
func TestChannelThroughAPooler(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 8} { // with 1, all statements reach the same process of the server
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			db := freshDatabase(t, server)
			p := server.StartPooler(t, "transaction", size)
			k := storetest.NewKey("key_a")
			must(t, open(t, Options{DSN: server.URL(db, server.Addr())}).Add(t.Context(), k))

			type change struct {
				up  bool
				err error
			}
			changes := make(chan change, 100)
			s := open(t, Options{DSN: server.URL(db, p.Addr()), OnChannel: func(up bool, err error) { changes <- change{up, err} }})
			watch(t, s, sink{})
			first := <-changes
			if first.up || !strings.Contains(first.err.Error(), "pooler") || !strings.Contains(first.err.Error(), "listen:") || !strings.Contains(first.err.Error(), "pool_mode=session") {
				t.Fatalf("up %t, %v; want down, with what to do", first.up, first.err)
			}
			select {
			case next := <-changes:
				t.Fatalf("then up %t, %v", next.up, next.err)
			case <-time.After(4 * time.Second): // more than one attempt
			}
			must(t, s.Ready(t.Context())) // lookups work

			// Without the channel, a change takes effect after ttl.
			r := newReplica(t, server.URL(db, p.Addr()), brief)
			r.allows(t, k)
			server.Exec(t, db, `UPDATE extauthz.keys SET enabled = false`)
			polltest.NoError(t, func() error {
				if got, err := r.lookup(k); err != nil || got.Enabled {
					return fmt.Errorf("%v, %w", got, err)
				}
				return nil
			})
		})
	}
}

// With a DSN that bypasses the pooler, or a pooler in session mode, the channel is up.
func TestChannelPastAPooler(t *testing.T) {
	t.Parallel()
	direct := func(db string) string { return server.URL(db, server.Addr()) }
	for name, open := range map[string]func(t *testing.T, db string) Options{
		"session": func(t *testing.T, db string) Options {
			return Options{DSN: server.URL(db, server.StartPooler(t, "session", 20).Addr())}
		},
		"listen": func(t *testing.T, db string) Options {
			return Options{DSN: server.URL(db, server.StartPooler(t, "transaction", 2).Addr()), ListenDSN: direct(db)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := freshDatabase(t, server)
			r := newReplicaOf(t, open(t, db), long)
			k := storetest.NewKey("key_a")
			must(t, r.store.Add(t.Context(), k))
			r.await(t, true)
			r.allows(t, k)
			server.Exec(t, db, `UPDATE extauthz.keys SET enabled = false`)
			polltest.NoError(t, func() error {
				if got, err := r.lookup(k); err != nil || got.Enabled {
					return fmt.Errorf("%v, %w", got, err)
				}
				return nil
			})
		})
	}
	t.Run("another database", func(t *testing.T) {
		t.Parallel()
		r := newReplicaOf(t, Options{DSN: direct(freshDatabase(t, server)), ListenDSN: direct(freshDatabase(t, server))}, long)
		select {
		case up := <-r.channel:
			if up {
				t.Error("up, though it listens to another database")
			}
		case <-time.After(time.Minute):
			t.Error("the channel is never reported")
		}
	})
}

// If the DSN requests prepared statements, the error says what to write instead.
func TestPreparedStatementsThroughAPooler(t *testing.T) {
	t.Parallel()
	p := server.StartPooler(t, "transaction", 1)
	dsn := server.URL(freshDatabase(t, server), p.Addr()) + "&default_query_exec_mode="
	first := open(t, Options{DSN: dsn + "cache_statement"})
	must(t, first.Ready(t.Context()))
	second := open(t, Options{DSN: dsn + "cache_statement"}) // finds the first one's statements
	if err := second.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "pgbouncer") || !strings.Contains(err.Error(), "default_query_exec_mode=exec") {
		t.Errorf("error %v, want what to write in the dsn", err)
	}
	for _, mode := range []string{"exec", "simple_protocol", "cache_describe", "describe_exec"} {
		s := open(t, Options{DSN: dsn + mode})
		k := storetest.NewKey("key_"+mode, "10.0.0.0/8")
		must(t, s.Ready(t.Context()))
		must(t, s.Add(t.Context(), k))
		got, err := s.Lookup(t.Context(), k.Hash)
		must(t, err)
		if got.Broken != nil {
			t.Errorf("%s: %v", mode, got.Broken)
		}
	}
}
