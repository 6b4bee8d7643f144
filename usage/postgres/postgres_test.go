package postgres_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	keys "extauthz/keystore/postgres"
	"extauthz/keystore/postgres/pgtest"
	"extauthz/usage"
	"extauthz/usage/postgres"
	"extauthz/usage/usagetest"
)

// role is the role of a server, with only the documented privileges.
const role = `
	DO $$ BEGIN CREATE ROLE decides LOGIN PASSWORD 'decides'; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
	GRANT USAGE ON SCHEMA extauthz TO decides;
	GRANT SELECT ON extauthz.keys, extauthz.schema_version TO decides;
	GRANT SELECT, INSERT, UPDATE ON extauthz.usage, extauthz.usage_keys, extauthz.servers TO decides;`

func TestStore(t *testing.T) {
	server := pgtest.Start(t)
	template := server.Database(t, "")
	if _, err := keys.Migrate(t.Context(), server.URL(template, server.Addr())); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, template, role)
	databases := make(map[string]string)
	usagetest.Run(t, func(t *testing.T, name string, limits usage.Limits) usage.Store {
		id := t.Name() + "\x00" + name
		if databases[id] == "" {
			databases[id] = server.Database(t, template)
		}
		pool, err := pgxpool.New(t.Context(), fmt.Sprintf("postgres://decides:decides@%s/%s?sslmode=disable&pool_max_conns=2", server.Addr(), databases[id]))
		if err != nil {
			t.Fatal(err)
		}
		s := postgres.New(pool, func(err error) error { return err }, limits)
		t.Cleanup(func() { _ = s.Close() })
		return s
	})
}
