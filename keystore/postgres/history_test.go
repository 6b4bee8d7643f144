package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

// Edits in SQL are recorded with the database's user, whatever the actor setting is.
func TestTrailOfSQL(t *testing.T) {
	db := freshDatabase(t, server)
	s := open(t, Options{DSN: server.URL(db, server.Addr())})
	must(t, s.Add(keystore.WithActor(t.Context(), "ann@host"), storetest.NewKey("key_a", "192.0.2.7")))
	role := "editor_" + db
	for _, statement := range []string{
		`UPDATE extauthz.keys SET enabled = false, expires = '2100-01-02T03:04:05+02:00' WHERE id = 'key_a'`,
		`UPDATE extauthz.keys SET enabled = false`, // changes nothing
		`UPDATE extauthz.keys SET ip_whitelist = ip_whitelist || '10.0.0.0/8'::cidr`,
		`UPDATE extauthz.keys SET hash = sha256('x'), previous_hash = hash, previous_until = '2100-01-01Z'`,
		`CREATE ROLE ` + role + `; GRANT USAGE ON SCHEMA extauthz TO ` + role + `; GRANT SELECT, UPDATE, TRUNCATE ON extauthz.keys TO ` + role,
		`SET ROLE ` + role + `; SELECT set_config('extauthz.actor', 'mallory', false); UPDATE extauthz.keys SET name = E'a\x1b[2J'; RESET ROLE`,
		`UPDATE extauthz.keys SET id = 'key_b'`,
		`INSERT INTO extauthz.keys (id, hash, meta) VALUES ('key_a', sha256('y'), '{"a": [1, null]}')`,
		`TRUNCATE extauthz.keys`,
		`DROP OWNED BY ` + role + `; DROP ROLE ` + role,
	} {
		server.Exec(t, db, statement)
	}
	edits, err := s.History(t.Context(), "key_a", 100)
	must(t, err)
	slices.Reverse(edits)
	var got []string
	for _, e := range edits {
		line := fmt.Sprintf("%s %s:", e.Who(), e.Action)
		for _, c := range e.Changes {
			line += " " + c.Text() + ";"
		}
		got = append(got, line)
	}
	want := []string{
		"ann@host (postgres) add: ip_whitelist: 192.0.2.7; enabled: true;",
		"postgres change: enabled: true → false; expires: 2100-01-02T01:04:05Z;",
		"postgres change: ip_whitelist: added 10.0.0.0/8;",
		`postgres change: hash: changed; previous: {"until":"2100-01-01T00:00:00Z"};`,
		"mallory (postgres) change: name: a\uFFFD[2J;",
		"postgres delete: name: a\uFFFD[2J → none; ip_whitelist: 192.0.2.7, 10.0.0.0/8 → none; previous: {\"until\":\"2100-01-01T00:00:00Z\"} → none; enabled: false → none; expires: 2100-01-02T01:04:05Z → none;",
		`postgres add: enabled: true; meta: {"a":[1,null]};`,
		"postgres delete:",
	}
	if !slices.Equal(got, want) {
		t.Errorf("recorded\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if edits, err := s.History(t.Context(), "key_b", 100); err != nil || len(edits) != 2 || edits[1].Action != "add" || len(edits[1].Changes) < 4 {
		t.Errorf("of the new id: %v, %v", edits, err)
	}
}

// New edits remove old ones, and a custom retention is respected.
func TestTrailRetention(t *testing.T) {
	db := freshDatabase(t, server)
	s := open(t, Options{DSN: server.URL(db, server.Addr())})
	must(t, s.Add(t.Context(), storetest.NewKey("key_a")))
	must(t, s.Add(t.Context(), storetest.NewKey("key_b")))
	left := func() int {
		t.Helper()
		edits, err := s.History(t.Context(), "key_a", 10)
		must(t, err)
		return len(edits)
	}
	server.Exec(t, db, `UPDATE extauthz.audit SET time = now() - interval '300 days' WHERE key_id = 'key_a'`)
	must(t, s.Delete(t.Context(), "key_b"))
	if n := left(); n != 1 {
		t.Errorf("%d edits after 300 days", n)
	}
	server.Exec(t, db, `CREATE OR REPLACE FUNCTION extauthz.audit_retention() RETURNS interval LANGUAGE sql IMMUTABLE AS $$ SELECT interval '90 days' $$`)
	must(t, s.Add(t.Context(), storetest.NewKey("key_b")))
	if n := left(); n != 0 {
		t.Errorf("%d edits that are older than the retention", n)
	}
}
