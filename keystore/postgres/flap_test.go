package postgres

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/polltest"
)

// flapping returns a replica that reaches the database through a proxy and has looked up n keys.
func flapping(t *testing.T, n int) (db string, p *proxy, r *replica, keys []*keystore.Key) {
	t.Helper()
	db = freshDatabase(t, server)
	keys = make([]*keystore.Key, n)
	for i := range keys {
		keys[i] = storetest.NewKey(fmt.Sprintf("key_%04d", i))
	}
	must(t, open(t, Options{DSN: server.URL(db, server.Addr())}).Put(t.Context(), keys))
	p = newProxy(t, server.Addr())
	r = newReplica(t, server.URL(db, p.addr()), long)
	r.await(t, true)
	for _, k := range keys {
		r.allows(t, k)
	}
	return db, p, r, keys
}

// serves checks what the replica answers for each key while the database is gone.
func (r *replica) serves(t *testing.T, keys []*keystore.Key, enabled bool) {
	t.Helper()
	for _, k := range keys {
		if got, err := r.lookup(k); err != nil || got.Enabled != enabled {
			t.Fatalf("%s, without a database: %+v, error %v; want enabled %t", k.ID, got, err, enabled)
		}
	}
}

// A database whose connections are lost again and again costs no cached key.
func TestFlappingDatabase(t *testing.T) {
	t.Parallel()
	_, p, r, keys := flapping(t, 50)
	for range 3 {
		p.set(refuse)
		r.await(t, false)
		p.set(forward)
		r.await(t, true)
		p.set(refuse) // before anyone has asked
		r.serves(t, keys, true)
		r.await(t, false)
		p.set(forward)
		r.await(t, true)
	}
}

// An edit shortly before an outage takes effect in the outage.
func TestEditBeforeAnOutage(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		keys int
		sql  string
	}{
		"a key":           {1, `UPDATE extauthz.keys SET enabled = false`},
		"over 1,000 rows": {1100, `UPDATE extauthz.keys SET enabled = false`},
	} {
		t.Run(name, func(t *testing.T) {
			db, p, r, keys := flapping(t, tt.keys)
			lookups := r.cache.Stats().Lookups
			server.Exec(t, db, tt.sql)
			polltest.NoError(t, func() error { // in the background, within a moment
				if s := r.cache.Stats(); s.Lookups-lookups < uint64(tt.keys) || s.InFlight > 0 {
					return fmt.Errorf("%d lookups", s.Lookups-lookups)
				}
				return nil
			})
			p.set(refuse)
			r.serves(t, keys, false)
		})
	}
}

// A key that is known to have changed is refused in an outage, and looked up in the background after it.
func TestEditInAnOutage(t *testing.T) {
	t.Parallel()
	db, p, r, keys := flapping(t, 1)
	server.Exec(t, db, `UPDATE extauthz.keys SET enabled = false`)
	polltest.NoError(t, func() error {
		got, err := r.lookup(keys[0])
		if err == nil && got.Enabled {
			err = errors.New("still enabled")
		}
		return err
	})
	p.set(refuse)
	r.await(t, false)
	r.cache.Invalidate(keys[0].Hash) // a notification in the last packet
	if got, err := r.lookup(keys[0]); err == nil || errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("found %+v, error %v", got, err)
	}
	p.set(forward)
	r.await(t, true)
	polltest.NoError(t, func() error {
		if s := r.cache.Stats(); s.InFlight > 0 || s.Errors == 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	time.Sleep(2 * time.Second) // it is tried again within one
	p.set(refuse)
	r.serves(t, keys, false)
}
