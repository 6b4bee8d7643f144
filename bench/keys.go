package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

	"extauthz/keystore/postgres"
	"extauthz/keystore/postgres/pgtest"
)

// secret is the i-th secret. All have the same length, so that one can replace another in an encoded
// request. The secrets of keys are numbered from 0.
func secret(i int) string { return fmt.Sprintf("sk_%021d", i) }

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// client is the client address of requests. Only the last range of each whitelist contains it.
const client = "127.0.0.1"

// stranger is an address that no whitelist contains.
const stranger = "198.51.100.1"

// whitelist returns n ranges, one of which contains the client.
func whitelist(n int) []string {
	ranges := make([]string, 0, n)
	for i := range n - 1 {
		ranges = append(ranges, fmt.Sprintf("10.%d.%d.%d/32", i/65536, i/256%256, i%256))
	}
	return append(ranges, "127.0.0.0/8")
}

// A keySet describes the keys of one server.
type keySet struct{ keys, ranges int }

func (s keySet) String() string { return fmt.Sprintf("%d keys × %d ranges", s.keys, s.ranges) }

// writeYAML writes a key file. The key with the number disabled is disabled.
func (s keySet) writeYAML(path string, disabled int) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	list := `["` + strings.Join(whitelist(s.ranges), `", "`) + `"]`
	fmt.Fprintln(w, "keys:")
	for i := range s.keys {
		fmt.Fprintf(w, "  - id: key_%07d\n    hash: %s\n    ip_whitelist: %s\n", i, hash(secret(i)), list)
		if i == disabled {
			fmt.Fprintln(w, "    enabled: false")
		}
	}
	return errors.Join(w.Flush(), f.Close(), os.Rename(path+".new", path))
}

// noKey is a number that no key has.
const noKey = -1

// A database is a Postgres server with one database for each key set.
type database struct{ server *pgtest.Server }

func startDatabase() (*database, error) {
	s, err := pgtest.New()
	if err != nil {
		return nil, err
	}
	return &database{s}, nil
}

// fill makes a database with the keys and returns its DSN.
func (d *database) fill(ctx context.Context, name string, s keySet) (string, error) {
	if err := d.exec(ctx, d.server.DSN(), "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	dsn := d.server.URL(name, d.server.Addr())
	if _, err := postgres.Migrate(ctx, dsn); err != nil {
		return "", err
	}
	return dsn, d.exec(ctx, dsn, `INSERT INTO extauthz.keys (id, hash, ip_whitelist)
		SELECT 'key_' || lpad(i::text, 7, '0'), sha256(('sk_' || lpad(i::text, 21, '0'))::bytea), $2::text[]::cidr[]
		FROM generate_series(0, $1 - 1) AS i`, s.keys, whitelist(s.ranges))
}

// enable sets whether a key is enabled.
func (d *database) enable(ctx context.Context, dsn string, key int, enabled bool) error {
	return d.exec(ctx, dsn, "UPDATE extauthz.keys SET enabled = $1 WHERE id = $2", enabled, fmt.Sprintf("key_%07d", key))
}

func (d *database) exec(ctx context.Context, dsn, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql, args...)
	return err
}
