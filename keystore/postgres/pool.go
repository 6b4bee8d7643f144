package postgres

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

// OpenPool returns a pool of connections to the database that a DSN names, for what is kept there
// beside the keys, and a function that removes secrets from its errors and keeps nil. It connects
// when it is first used.
func OpenPool(ctx context.Context, dsn string, maxConns int32) (*pgxpool.Pool, func(error) error, error) {
	conn, err := parseDSN(dsn)
	if err != nil {
		return nil, nil, err
	}
	conn.pool.MaxConns = maxConns
	conn.pool.MinConns = min(conn.pool.MinConns, maxConns)
	pool, err := pgxpool.NewWithConfig(ctx, conn.pool)
	if err != nil {
		return nil, nil, conn.failure(err)
	}
	return pool, conn.failure, nil
}
