package config

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestStores(t *testing.T) {
	t.Setenv("EXTAUTHZ_TEST_SECRET", variable)
	for text, want := range map[string]Store{
		`{yaml: {path: /a.yaml}}`:                                                 {YAML: &YAMLStore{Path: "/a.yaml"}},
		`{postgres: {dsn: "postgres://a@db/a"}}`:                                  {Postgres: &PostgresStore{DSN: "postgres://a@db/a"}},
		`{postgres: {dsn: "postgres://a@pooler/a", listen: "postgres://a@db/a"}}`: {Postgres: &PostgresStore{DSN: "postgres://a@pooler/a", Listen: "postgres://a@db/a"}},
		`{postgres: {dsn: "password='${EXTAUTHZ_TEST_SECRET}'"}}`:                 {Postgres: &PostgresStore{DSN: "password='" + variable + "'"}},
		`{redis: {url: "redis://a"}}`:                                             {Redis: &RedisStore{URL: "redis://a", Prefix: "extauthz:"}},
		`{redis: {prefix: "b:", url: "${EXTAUTHZ_TEST_SECRET}"}}`:                 {Redis: &RedisStore{URL: variable, Prefix: "b:"}},
		`{redis: {url: "redis://a,b?master_set=m", prefix: "{c}"}}`:               {Redis: &RedisStore{URL: "redis://a,b?master_set=m", Prefix: "{c}"}},
	} {
		file := filepath.Join(t.TempDir(), "extauthz.yaml")
		if err := os.WriteFile(file, []byte("store: "+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(file, Overrides{})
		if err != nil || !reflect.DeepEqual(c.Store, want) {
			t.Errorf("%s: %+v, %v; want %+v", text, c.Store, err, want)
		}
		if c, err = Load(file, Overrides{Keys: "b.yaml"}); err != nil || c.Store != (Store{YAML: c.Store.YAML}) {
			t.Errorf("%s: --keys leaves %+v, %v", text, c.Store, err)
		}
	}
}
