package postgres

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"extauthz/audit"
	"extauthz/audit/audittest"
	"extauthz/keystore"
	"extauthz/keystore/postgres/pgtest"
	"extauthz/keystore/storetest"
)

// server is shared by the tests that do not stop it.
var server *pgtest.Server

func TestMain(m *testing.M) {
	var err error
	if server, err = pgtest.New(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	server.Close()
	os.Exit(code)
}

var migrated sync.Map // *pgtest.Server → func(): creates its database "migrated", once

// freshDatabase returns a database with an empty table of keys.
func freshDatabase(tb testing.TB, s *pgtest.Server) string {
	tb.Helper()
	once, _ := migrated.LoadOrStore(s, sync.OnceFunc(func() {
		s.Exec(tb, "postgres", "CREATE DATABASE migrated")
		if _, err := Migrate(tb.Context(), s.URL("migrated", s.Addr())); err != nil {
			tb.Fatal(err)
		}
	}))
	once.(func())()
	return s.Database(tb, "migrated")
}

func open(tb testing.TB, o Options) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

func openFresh(tb testing.TB) *Store {
	tb.Helper()
	return open(tb, Options{DSN: server.URL(freshDatabase(tb, server), server.Addr())})
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Backend { return openFresh(t) })
}

func TestTrail(t *testing.T) {
	audittest.Run(t, func(t *testing.T) audit.Editor { return openFresh(t) })
}

func TestWatcher(t *testing.T) {
	storetest.RunWatcher(t, func(t *testing.T) storetest.Backend { return openFresh(t) })
}

func TestKeysInPages(t *testing.T) {
	s := openFresh(t)
	keys := make([]*keystore.Key, 2*pageSize)
	for i := range keys {
		keys[i] = storetest.NewKey(fmt.Sprintf("key_%05d", i))
	}
	must(t, s.Put(t.Context(), keys))
	i := 0
	for k, err := range s.Keys(t.Context(), "") {
		must(t, err)
		if k.ID != keys[i].ID {
			t.Fatalf("key %d is %s, want %s", i, k.ID, keys[i].ID)
		}
		i++
	}
	if i != len(keys) {
		t.Errorf("%d keys listed, want %d", i, len(keys))
	}
}

func TestPutOfAKeyTwiceWritesTheLast(t *testing.T) {
	s := openFresh(t)
	first, last := storetest.NewKey("key_a"), storetest.NewKey("key_a", "10.0.0.0/8")
	must(t, s.Put(t.Context(), []*keystore.Key{first, last}))
	k, err := s.Key(t.Context(), "key_a")
	must(t, err)
	if !k.Whitelist.Equal(last.Whitelist) {
		t.Errorf("whitelist %v, want the last that was given", k.Whitelist.Prefixes())
	}
}

// Two concurrent Puts of the same keys in different orders do not deadlock.
func TestPutsAtOnce(t *testing.T) {
	s := openFresh(t)
	keys := make([]*keystore.Key, 2000)
	for i := range keys {
		keys[i] = storetest.NewKey(fmt.Sprintf("key_%05d", i))
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			mine := make([]*keystore.Key, 0, len(keys))
			for j := range keys {
				k := keys[(j*(2*i+1)+i)%len(keys)].Clone()
				k.Name = fmt.Sprint("of editor ", i)
				mine = append(mine, k)
			}
			if err := s.Put(t.Context(), mine); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
