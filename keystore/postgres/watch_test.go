package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/polltest"
)

// A recorder records changes as text.
type recorder struct {
	mu       sync.Mutex
	reported []string
}

func (r *recorder) add(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reported = append(r.reported, s)
}

func (r *recorder) Invalidate(h keystore.Hash) { r.add(h.String()) }
func (r *recorder) InvalidateAll()             { r.add("all") }

func (r *recorder) channel(up bool, err error) {
	switch {
	case up && err == nil:
		r.add("up")
	case !up && err != nil:
		r.add("down")
	default:
		r.add(fmt.Sprintf("up %t with error %v", up, err))
	}
}

// take waits for at least n changes, and removes and returns all.
func (r *recorder) take(t *testing.T, n int) []string {
	t.Helper()
	var reported []string
	polltest.NoError(t, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.reported) < n {
			return fmt.Errorf("reported %q, want %d changes", r.reported, n)
		}
		reported, r.reported = r.reported, nil
		return nil
	})
	return reported
}

// watch runs Watch until the test ends.
func watch(t *testing.T, s *Store, inv keystore.Invalidator) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(ctx, inv) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch ended with %v", err)
		}
	})
}

func TestWatchReportsSQL(t *testing.T) {
	db := freshDatabase(t, server)
	var r recorder
	s := open(t, Options{DSN: server.URL(db, server.Addr()), OnChannel: r.channel})
	watch(t, s, &r)
	if got := r.take(t, 2); !slices.Equal(got, []string{"all", "up"}) {
		t.Fatalf("at first reported %q, want all before the channel is up", got)
	}
	hash := func(i int) string { return keystore.Secret(fmt.Sprint(i)).Hash().String() }
	hashOf := func(s keystore.Secret) string { return s.Hash().String() }
	hashes := func(from, to int) []string {
		var list []string
		for i := from; i <= to; i++ {
			list = append(list, hash(i))
		}
		return list
	}
	insert := `INSERT INTO extauthz.keys (id, hash) SELECT 'key_' || i, sha256(i::text::bytea) FROM generate_series(%d, %d) AS i`
	for _, tt := range []struct {
		sql  string
		want []string
	}{
		{fmt.Sprintf(insert, 1, 1), hashes(1, 1)},
		{fmt.Sprintf(insert, 2, 250), hashes(2, 250)},
		{fmt.Sprintf(insert, 251, 1250), hashes(251, 1250)},
		{fmt.Sprintf(insert, 1251, 2251), []string{"all"}},
		{`UPDATE extauthz.keys SET enabled = false WHERE id = 'key_7'`, hashes(7, 7)},
		{`UPDATE extauthz.keys SET hash = sha256('new') WHERE id = 'key_7'`, []string{hash(7), keystore.Secret("new").Hash().String()}},
		{`UPDATE extauthz.keys SET previous_hash = sha256('old'), previous_until = '2100-01-01' WHERE id = 'key_7'`, []string{hashOf("new"), hashOf("old")}},
		{`UPDATE extauthz.keys SET previous_hash = sha256('older'), hash = sha256('newer') WHERE id = 'key_7'`, []string{hashOf("new"), hashOf("old"), hashOf("newer"), hashOf("older")}},
		{`DELETE FROM extauthz.keys WHERE id = 'key_7'`, []string{hashOf("newer"), hashOf("older")}},
		{
			`INSERT INTO extauthz.keys (id, hash, previous_hash, previous_until) VALUES ('key_7', sha256('new'), sha256('old'), '2100-01-01')`,
			[]string{hashOf("new"), hashOf("old")},
		},
		{`UPDATE extauthz.keys SET id = 'key_8b' WHERE id = 'key_8'`, hashes(8, 8)},
		{`UPDATE extauthz.keys SET enabled = false`, []string{"all"}},
		{`DELETE FROM extauthz.keys WHERE id IN ('key_1', 'key_2', 'key_3')`, hashes(1, 3)},
		{`UPDATE extauthz.keys SET enabled = false WHERE id = 'nobody'`, nil},
		{`BEGIN; DELETE FROM extauthz.keys; ROLLBACK`, nil},
		{`SET session_replication_role = replica; UPDATE extauthz.keys SET enabled = true WHERE id = 'key_9'`, hashes(9, 9)},
		{
			`INSERT INTO extauthz.keys (id, hash) VALUES ('key_9', sha256('9')), ('key_fresh', sha256('fresh')) ON CONFLICT (id) DO UPDATE SET name = 'x'`,
			[]string{hash(9), keystore.Secret("fresh").Hash().String()},
		},
		{`DELETE FROM extauthz.keys`, []string{"all"}},
		{`TRUNCATE extauthz.keys`, []string{"all"}},
		{`NOTIFY extauthz_keys, 'what a later version might say'`, []string{"all"}},
		{`NOTIFY extauthz_keys`, []string{"all"}},
	} {
		server.Exec(t, db, tt.sql)
		server.Exec(t, db, `NOTIFY extauthz_keys, '`+hash(-1)+`'`) // an end to wait for
		var got []string
		for !slices.Contains(got, hash(-1)) {
			got = append(got, r.take(t, 1)...)
		}
		got = got[:len(got)-1]
		slices.Sort(got)
		slices.Sort(tt.want)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: reported %d %.200q, want %d %.200q", tt.sql, len(got), got, len(tt.want), tt.want)
		}
	}

	keys := []*keystore.Key{storetest.NewKey("a"), storetest.NewKey("b")}
	must(t, s.Put(t.Context(), keys))
	r.take(t, 2)
	must(t, s.Put(t.Context(), keys)) // changes nothing
	server.Exec(t, db, `NOTIFY extauthz_keys, '`+hash(-1)+`'`)
	if got := r.take(t, 1); !slices.Equal(got, []string{hash(-1)}) {
		t.Errorf("a Put of what is there reported %q", got)
	}
}

func TestWatchComesBack(t *testing.T) {
	db := freshDatabase(t, server)
	var r recorder
	s := open(t, Options{DSN: server.URL(db, server.Addr()), OnChannel: r.channel})
	watch(t, s, &r)
	r.take(t, 2)
	for range 3 {
		server.Exec(t, db, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'extauthz watch' AND datname = current_database()`)
		if got := r.take(t, 3); !slices.Equal(got, []string{"down", "all", "up"}) {
			t.Errorf("reported %q, want that the channel went down and came back", got)
		}
	}
}
