package postgres

import (
	"context"
	"embed"
	"fmt"
	"path"
	"strings"

	"github.com/jackc/pgx/v5"
)

// migrations has one file for each version, NNNN_name.sql, from 0001 without gaps. A released file
// never changes; a later one corrects it.
//
//go:embed migrations/*.sql
var migrations embed.FS

const (
	// migrateLock is the advisory lock of migrations, "extauthz" in ASCII.
	migrateLock = 0x6578746175746877

	selectVersion = `SELECT coalesce(max(version), 0) FROM extauthz.schema_version`
)

// migrationNames returns the files in order: version i+1 has index i.
func migrationNames() []string {
	entries, err := migrations.ReadDir("migrations")
	if err != nil {
		return nil // impossible: it is embedded
	}
	names := make([]string, len(entries)) // ReadDir sorts
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

func latest() int { return len(migrationNames()) }

// Migrate updates the schema of the database to this program's version, and returns the names of the
// migrations that it applied. It is one transaction under a lock, so it can be repeated and run
// concurrently. A schema that is newer than this program is an error, and nothing changes. Errors
// contain no password.
func Migrate(ctx context.Context, dsn string) (applied []string, err error) {
	c, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, c.pool.ConnConfig)
	if err != nil {
		return nil, c.failure(err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) // what is committed stays committed

	var version int
	// Each statement must see what others committed while this one waited for the lock.
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		if version, err = lockVersion(ctx, tx); err != nil || version > latest() {
			return err
		}
		applied, err = migrateFrom(ctx, tx, version)
		return err
	})
	if err != nil {
		return nil, c.failure(err)
	}
	if version > latest() {
		return nil, fmt.Errorf("postgres: the schema is at version %d, and this program knows versions up to %d: run `extauthz store migrate` of the newer program", version, latest())
	}
	return applied, nil
}

// lockVersion blocks other migrations until tx ends, and returns the schema's version.
func lockVersion(ctx context.Context, tx pgx.Tx) (version int, err error) {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrateLock)); err != nil {
		return 0, err
	}
	var made bool
	if err := tx.QueryRow(ctx, `SELECT to_regclass('extauthz.schema_version') IS NOT NULL`).Scan(&made); err != nil || !made {
		return 0, err
	}
	err = tx.QueryRow(ctx, selectVersion).Scan(&version)
	return version, err
}

func migrateFrom(ctx context.Context, tx pgx.Tx, version int) (applied []string, err error) {
	for i, file := range migrationNames()[version:] {
		sql, err := migrations.ReadFile(path.Join("migrations", file))
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(file, ".sql")
		if _, err := tx.Exec(ctx, string(sql)); err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
		if _, err := tx.Exec(ctx, `INSERT INTO extauthz.schema_version (version, name) VALUES ($1, $2)`, version+i+1, name); err != nil {
			return nil, err
		}
		applied = append(applied, name)
	}
	return applied, nil
}
