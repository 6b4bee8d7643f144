package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"extauthz/keystore"
	"extauthz/keystore/postgres/pgtest"
	"extauthz/keystore/storetest"
	"extauthz/polltest"
)

// A replica over a subscriber of logical replication is notified of what the publisher changes.
func TestLogicalReplication(t *testing.T) {
	t.Parallel()
	publisher, subscriber := pgtest.Start(t, "wal_level=logical"), pgtest.Start(t)
	from, to := freshDatabase(t, publisher), freshDatabase(t, subscriber)
	editor := open(t, Options{DSN: publisher.URL(from, publisher.Addr())})
	k, before := storetest.NewKey("key_a", "10.0.0.0/8"), storetest.NewKey("key_before")
	must(t, editor.Put(t.Context(), []*keystore.Key{k, before}))
	r := newReplica(t, subscriber.URL(to, subscriber.Addr()), long)
	r.await(t, true)
	if _, err := r.lookup(k); err == nil {
		t.Fatal("found before the subscription")
	}

	publisher.Exec(t, from, `CREATE PUBLICATION keys FOR TABLE extauthz.keys`)
	cfg, err := pgx.ParseConfig(publisher.URL(from, publisher.Addr()))
	must(t, err)
	subscriber.Exec(t, to, fmt.Sprintf(`CREATE SUBSCRIPTION keys CONNECTION 'host=%s port=%d dbname=%s user=%s password=%s' PUBLICATION keys`,
		cfg.Host, cfg.Port, from, cfg.User, quoteConninfo(cfg.Password)))
	r.allows(t, k) // from the initial copy; otherwise unknown for an hour

	became := func(what string, ok func(*keystore.Key, error) bool) {
		t.Helper()
		polltest.NoError(t, func() error {
			got, err := r.lookup(k)
			if !ok(got, err) {
				return errors.New(what + ": " + fmt.Sprint(got, err))
			}
			return nil
		})
	}
	enable := func(enabled bool) {
		t.Helper()
		must(t, editor.Update(t.Context(), k.ID, func(k *keystore.Key) error { k.Enabled = enabled; return nil }))
		start := time.Now()
		defer func() { t.Logf("enabled %t on the publisher: seen after %s", enabled, time.Since(start)) }()
		became(fmt.Sprintf("enabled %t", enabled), func(k *keystore.Key, err error) bool { return err == nil && k.Enabled == enabled })
	}
	enable(false)
	enable(true)
	must(t, editor.Delete(t.Context(), k.ID))
	became("deleted", func(_ *keystore.Key, err error) bool {
		return errors.Is(err, keystore.ErrNotFound)
	})
	must(t, editor.Add(t.Context(), k))
	r.allows(t, k)
	subscriber.Exec(t, to, `ALTER TABLE extauthz.keys ENABLE TRIGGER notify_replicated`) // as pg_restore --disable-triggers leaves it
	r.await(t, false)
	subscriber.Exec(t, to, `ALTER TABLE extauthz.keys ENABLE REPLICA TRIGGER notify_replicated`)
	r.await(t, true)
	publisher.Exec(t, from, `TRUNCATE extauthz.keys`)
	became("truncated", func(_ *keystore.Key, err error) bool {
		return errors.Is(err, keystore.ErrNotFound)
	})
}

// quoteConninfo returns a value of a connection string, inside an SQL string.
func quoteConninfo(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s)
	return strings.ReplaceAll("'"+s+"'", "'", "''")
}

// Under session_replication_role = replica each change is notified once, and a large transaction
// as "all".
func TestWatchReportsReplicatedRows(t *testing.T) {
	db := freshDatabase(t, server)
	var r recorder
	s := open(t, Options{DSN: server.URL(db, server.Addr()), OnChannel: r.channel})
	watch(t, s, &r)
	r.take(t, 2)
	const replica = `SET session_replication_role = replica; `
	hash := func(i int) string { return keystore.Secret(fmt.Sprint(i)).Hash().String() }
	hashes := func(from, to int) (list []string) {
		for i := from; i <= to; i++ {
			list = append(list, hash(i))
		}
		return list
	}
	insert := replica + `INSERT INTO extauthz.keys (id, hash) SELECT 'key_' || i, sha256(i::text::bytea) FROM generate_series(%d, %d) AS i`
	for _, tt := range []struct {
		sql  string
		want []string
	}{
		{fmt.Sprintf(insert, 1, 1), hashes(1, 1)},
		{fmt.Sprintf(insert, 2, 1001), hashes(2, 1001)},
		{fmt.Sprintf(insert, 1002, 5000), append(hashes(1002, 2001), "all")},
		{replica + `UPDATE extauthz.keys SET hash = sha256('new') WHERE id = 'key_7'`, []string{hash(7), keystore.Secret("new").Hash().String()}},
		{
			replica + `UPDATE extauthz.keys SET previous_hash = sha256('old'), previous_until = '2100-01-01' WHERE id = 'key_7'`,
			[]string{keystore.Secret("new").Hash().String(), keystore.Secret("old").Hash().String()},
		},
		{replica + `DELETE FROM extauthz.keys WHERE id = 'key_7'`, []string{keystore.Secret("new").Hash().String(), keystore.Secret("old").Hash().String()}},
		{replica + `DELETE FROM extauthz.keys WHERE id = 'key_8'`, hashes(8, 8)},
		{replica + `BEGIN; DELETE FROM extauthz.keys; ROLLBACK; UPDATE extauthz.keys SET enabled = false WHERE id = 'key_9'`, hashes(9, 9)},
		{replica + `TRUNCATE extauthz.keys`, []string{"all"}},
	} {
		server.Exec(t, db, tt.sql)
		server.Exec(t, db, `NOTIFY extauthz_keys, '`+hash(-1)+`'`)
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
}
