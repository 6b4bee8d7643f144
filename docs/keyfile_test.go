// Package docs_test compares the reference of keys with what the stores read.
package docs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"extauthz/keystore"
	"extauthz/keystore/postgres"
	"extauthz/keystore/postgres/pgtest"
	"extauthz/keystore/redis"
	"extauthz/keystore/yamlfile"
	"extauthz/redisclient/redistest"
)

const page = "key-file.md"

// secret is the secret of the key in the examples, and oldSecret the one before its rotation.
const (
	secret    = keystore.Secret("demo_acme")
	oldSecret = keystore.Secret("demo_acme_old")
)

func text(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// rows returns the table rows with this many cells whose first cell is code, by the text of that cell
// without its quotes.
func rows(t *testing.T, cells int) map[string][]string {
	t.Helper()
	found := make(map[string][]string)
	for line := range strings.Lines(text(t)) {
		row := strings.Split(strings.Trim(line, "| \n"), " | ")
		if name, ok := strings.CutPrefix(row[0], "`"); ok && strings.HasPrefix(line, "|") && len(row) == cells {
			found[strings.TrimSuffix(name, "`")] = row
		}
	}
	return found
}

// blocks returns the blocks of code in a language.
func blocks(t *testing.T, language string, want int) []string {
	t.Helper()
	var found []string
	for _, b := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(text(t), -1) {
		found = append(found, b[1])
	}
	if len(found) != want {
		t.Fatalf("%d blocks of %s, want %d", len(found), language, want)
	}
	return found
}

// names maps fields of the struct to fields of the record whose names differ by more than case.
var names = map[string]string{
	"Whitelist": "ip_whitelist", "WhitelistMode": "ip_whitelist_mode", "ExternalID": "external_id", "OnDemand": "auto_apply",
}

func fields(t reflect.Type) []string {
	var list []string
	for f := range t.Fields() {
		name, ok := names[f.Name]
		if !ok {
			name = strings.ToLower(f.Name)
		}
		if name != "broken" {
			list = append(list, name)
		}
	}
	return list
}

// The page has exactly one row for each field that a store holds.
func TestKeyFieldsAreDocumented(t *testing.T) {
	documented, none := rows(t, 6), "–"
	columns := columnTypes(t)
	for _, name := range fields(reflect.TypeFor[keystore.Key]()) {
		row := documented[name]
		delete(documented, name)
		inYAML, inSQL, inJSON := isYAMLField(t, name), columns[name] != "", isJSONField(name)
		if row == nil {
			if inYAML || inSQL || inJSON {
				t.Errorf("%s has no row for %s", page, name)
			}
			continue
		}
		if (row[1] != none) != inYAML || (row[2] != none) != inSQL || (row[3] != none) != inJSON {
			t.Errorf("%s: YAML has it: %t, SQL: %t, JSON: %t; the row says %q, %q, %q", name, inYAML, inSQL, inJSON, row[1], row[2], row[3])
		}
		column, _, _ := strings.Cut(strings.TrimPrefix(row[2], "`"), "`")
		if inSQL && column != columns[name] {
			t.Errorf("%s: the column's type is %s; the row says %s", name, columns[name], column)
		}
	}
	for name := range documented {
		t.Errorf("%s has a row for %s, which is no field", page, name)
	}
	for column := range columns {
		if !slices.Contains(fields(reflect.TypeFor[keystore.Key]()), column) {
			t.Errorf("the column %s is no field", column)
		}
	}
}

func TestRatelimitFieldsAreDocumented(t *testing.T) {
	documented := rows(t, 4)
	for _, name := range fields(reflect.TypeFor[keystore.Ratelimit]()) {
		if documented[name] == nil {
			t.Errorf("%s has no row for a rate limit's %s", page, name)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("%s has a row for a rate limit's %s, which is no field", page, name)
	}
}

func isYAMLField(t *testing.T, name string) bool {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, "keys: [{%s: null}]\n", name), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := yamlfile.Open(path, yamlfile.Options{})
	return err != nil && !strings.Contains(err.Error(), "unknown field")
}

func isJSONField(name string) bool {
	k := keystore.DecodeKey(secret.Hash(), fmt.Appendf(nil, `{"id":"key_a","%s":[[]]}`, name))
	return k.Broken == nil || !strings.Contains(k.Broken.Error(), "is not a field")
}

// columnTypes returns the types of the columns of extauthz.keys by field; the field previous has two columns.
func columnTypes(t *testing.T) map[string]string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), migrated(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	found, err := conn.Query(t.Context(), `SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
		WHERE attrelid = 'extauthz.keys'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname`)
	if err != nil {
		t.Fatal(err)
	}
	types := make(map[string]string)
	var name, columnType string
	_, err = pgx.ForEachRow(found, []any{&name, &columnType}, func() error {
		if part, ok := strings.CutPrefix(name, "previous_"); ok {
			name, columnType = "previous", strings.TrimPrefix(types["previous"]+"; "+part+" "+columnType, "; ")
		}
		types[name] = strings.ReplaceAll(columnType, "timestamp with time zone", "timestamptz")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return types
}

// migrated returns the DSN of a fresh database with the table of keys.
func migrated(t *testing.T) string {
	t.Helper()
	server := pgtest.Start(t)
	dsn := server.URL(server.Database(t, ""), server.Addr())
	if _, err := postgres.Migrate(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	return dsn
}

// described returns a key as text. Equal keys have the same text.
func described(t *testing.T, k *keystore.Key, err error) string {
	t.Helper()
	if err != nil {
		return err.Error()
	}
	b, err := yamlfile.MarshalKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fromYAML returns the key of the YAML example.
func fromYAML(t *testing.T) *keystore.Key {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.yaml")
	if err := os.WriteFile(path, []byte(blocks(t, "yaml", 1)[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := yamlfile.Open(path, yamlfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k, err := s.Lookup(t.Context(), secret.Hash())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// editor is the interface with which the examples of Postgres and Redis are checked.
type editor interface {
	keystore.Store
	keystore.Editor
	Close()
}

// checkExamples runs three examples, which add the key of the YAML example, disable it and delete
// it, and looks the key up after each.
func checkExamples(t *testing.T, s editor, run func(example string), examples []string) {
	t.Helper()
	defer s.Close()
	want := described(t, fromYAML(t), nil)
	for i, check := range []func(k *keystore.Key, err error) bool{
		func(k *keystore.Key, err error) bool { return described(t, k, err) == want },
		func(k *keystore.Key, err error) bool { return err == nil && k.Broken == nil && !k.Enabled },
		func(_ *keystore.Key, err error) bool { return err == keystore.ErrNotFound }, //nolint:errorlint // as it is returned
	} {
		run(examples[i])
		if k, err := s.Lookup(t.Context(), secret.Hash()); !check(k, err) {
			t.Errorf("after\n%s\nthe key is\n%swant at first:\n%s", examples[i], described(t, k, err), want)
		}
		if k, err := s.Lookup(t.Context(), oldSecret.Hash()); i != 1 && !check(k, err) {
			t.Errorf("after\n%s\nthe key by its previous secret is\n%s", examples[i], described(t, k, err))
		}
		if k, err := s.Key(t.Context(), "key_acme_prod"); !check(k, err) {
			t.Errorf("after\n%s\nthe key by its id is\n%s", examples[i], described(t, k, err))
		}
	}
}

func TestPostgresExamples(t *testing.T) {
	dsn := migrated(t)
	s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	checkExamples(t, s, func(sql string) {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}, blocks(t, "sql", 3))
}

func TestRedisExamples(t *testing.T) {
	server := redistest.Start(t)
	s, err := redis.Open(t.Context(), redis.Options{URL: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	checkExamples(t, s, func(lines string) {
		for line := range strings.Lines(lines) {
			command, ok := strings.CutPrefix(strings.TrimSpace(line), "redis-cli ")
			if !ok {
				t.Fatalf("not a redis-cli command: %s", line)
			}
			var words []string
			for _, w := range regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(command, -1) {
				words = append(words, w[1]+w[2])
			}
			server.CLI(words...)
		}
	}, blocks(t, "sh", 3))
}
