package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

func TestMigrationsAreNumbered(t *testing.T) {
	if latest() == 0 {
		t.Fatal("there are none")
	}
	for i, name := range migrationNames() {
		if want := fmt.Sprintf("%04d_", i+1); !strings.HasPrefix(name, want) {
			t.Errorf("%s stands at %d: its name must begin with %s", name, i, want)
		}
	}
}

func TestMigrate(t *testing.T) {
	dsn := server.URL(server.Database(t, ""), server.Addr())
	applied, err := Migrate(t.Context(), dsn)
	must(t, err)
	if len(applied) != latest() || applied[0] != "0001_keys" {
		t.Errorf("applied %q", applied)
	}
	must(t, open(t, Options{DSN: dsn}).Ready(t.Context()))
	applied, err = Migrate(t.Context(), dsn)
	must(t, err)
	if len(applied) > 0 {
		t.Errorf("applied %q again", applied)
	}
}

func TestMigrateFromManyPlacesAtOnce(t *testing.T) {
	dsn := server.URL(server.Database(t, ""), server.Addr())
	var mu sync.Mutex
	var all []string
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			applied, err := Migrate(t.Context(), dsn)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, applied...)
		})
	}
	wg.Wait()
	if len(all) != latest() {
		t.Errorf("applied %q, want each once", all)
	}
}

func TestMigrateRefusesANewerSchema(t *testing.T) {
	db := freshDatabase(t, server)
	server.Exec(t, db, `INSERT INTO extauthz.schema_version VALUES (9999, '9999_later')`)
	dsn := server.URL(db, server.Addr())
	_, err := Migrate(t.Context(), dsn)
	if err == nil || !strings.Contains(err.Error(), "version 9999") || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("error %v", err)
	}
	// A server that is not upgraded yet still works.
	must(t, open(t, Options{DSN: dsn}).Ready(t.Context()))
}

// A database without the schema is not an empty store.
func TestWithoutSchema(t *testing.T) {
	s := open(t, Options{DSN: server.URL(server.Database(t, ""), server.Addr())})
	_, lookup := s.Lookup(t.Context(), keystore.Secret("a").Hash())
	_, key := s.Key(t.Context(), "key_a")
	for call, err := range map[string]error{
		"Lookup": lookup, "Key": key, "Ready": s.Ready(t.Context()), "Delete": s.Delete(t.Context(), "key_a"),
		"Add": s.Add(t.Context(), storetest.NewKey("key_a")), "Put": s.Put(t.Context(), []*keystore.Key{storetest.NewKey("key_a")}),
	} {
		if err == nil || errors.Is(err, keystore.ErrNotFound) || !strings.Contains(err.Error(), "run `extauthz store migrate`") {
			t.Errorf("%s: error %v", call, err)
		}
	}
}

func TestReadyOnAnOlderSchema(t *testing.T) {
	db := freshDatabase(t, server)
	server.Exec(t, db, `DELETE FROM extauthz.schema_version`)
	err := open(t, Options{DSN: server.URL(db, server.Addr())}).Ready(t.Context())
	if err == nil || !strings.Contains(err.Error(), "version 0") || !strings.Contains(err.Error(), "run `extauthz store migrate`") {
		t.Errorf("error %v", err)
	}
}

// The documented privileges suffice, and missing ones are reported.
func TestPrivileges(t *testing.T) {
	db := freshDatabase(t, server)
	role := "reader_" + db
	server.Exec(t, db, `CREATE ROLE `+role+` LOGIN PASSWORD 'reader'`)
	t.Cleanup(func() { server.Exec(t, db, `DROP OWNED BY `+role+`; DROP ROLE `+role) })
	cfg, err := pgx.ParseConfig(server.URL(db, server.Addr()))
	must(t, err)
	s := open(t, Options{DSN: fmt.Sprintf("host=%s port=%d dbname=%s user=%s password=reader sslmode=disable", cfg.Host, cfg.Port, db, role)})
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "GRANT") {
		t.Errorf("error %v, want what to grant", err)
	}
	server.Exec(t, db, `GRANT USAGE ON SCHEMA extauthz TO `+role+`; GRANT SELECT ON extauthz.keys, extauthz.schema_version TO `+role)
	must(t, s.Ready(t.Context()))
	if err := s.Add(t.Context(), storetest.NewKey("key_a")); err == nil {
		t.Error("a reader wrote a key")
	}
	server.Exec(t, db, `GRANT INSERT, UPDATE, DELETE ON extauthz.keys TO `+role)
	must(t, s.Add(t.Context(), storetest.NewKey("key_a")))
	must(t, s.Put(t.Context(), []*keystore.Key{storetest.NewKey("key_a", "10.0.0.0/8")}))
	must(t, s.Update(t.Context(), "key_a", func(k *keystore.Key) error { k.Name = "a"; return nil }))
	must(t, s.Delete(t.Context(), "key_a"))
	if _, err := s.History(t.Context(), "key_a", 10); err == nil {
		t.Error("who may edit can read the trail without SELECT on it")
	}
	for _, statement := range []string{`DELETE FROM extauthz.audit`, `UPDATE extauthz.audit SET actor = 'b'`, `INSERT INTO extauthz.audit (key_id, time, actor, database_user, action) VALUES ('key_a', now(), 'a', 'a', 'add')`} {
		if _, err := s.pool.Exec(t.Context(), statement); err == nil {
			t.Errorf("who may edit keys may change the trail: %s", statement)
		}
	}
	server.Exec(t, db, `GRANT SELECT ON extauthz.audit TO `+role)
	if edits, err := s.History(t.Context(), "key_a", 10); err != nil || len(edits) != 4 || edits[0].Actor != role {
		t.Errorf("%v, %v", edits, err)
	}
}

// Lookups and listings use an index.
func TestIndexes(t *testing.T) {
	s := openFresh(t)
	for _, query := range []string{
		strings.ReplaceAll(lookupKeys, `$1`, `'\x00'`),
		selectKeys + ` WHERE id > 'a' ORDER BY id LIMIT 500`,
		strings.NewReplacer(`$1`, `now()`, `$2`, `now() + interval '7 days'`, `$3`, `now() + interval '30 days'`).Replace(countKeys),
	} {
		must(t, pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off`); err != nil {
				return err
			}
			rows, err := tx.Query(t.Context(), `EXPLAIN `+query)
			if err != nil {
				return err
			}
			plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
			isNode := func(node string) func(string) bool { return func(l string) bool { return strings.Contains(l, node) } }
			if !slices.ContainsFunc(plan, isNode("Index")) || slices.ContainsFunc(plan, isNode("Sort")) || slices.ContainsFunc(plan, isNode("Seq Scan")) {
				t.Errorf("%s:\n%s", query, strings.Join(plan, "\n"))
			}
			return err
		}))
	}
}
