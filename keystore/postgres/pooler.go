package postgres

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A pooler is the state of the detection of a connection pooler, such as pgbouncer.
type pooler struct{ state atomic.Int32 }

const (
	poolerUnknown int32 = iota
	poolerAbsent
	poolerPresent // permanent
)

// inspect detects a pooler on a new connection: it sends its clients process ids of its own, since they
// share the server's processes.
func (p *pooler) inspect(ctx context.Context, conn *pgx.Conn) error {
	var pid uint32
	if err := conn.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeSimpleProtocol).Scan(&pid); err != nil {
		return err
	}
	if pid != conn.PgConn().PID() {
		p.state.Store(poolerPresent)
	} else {
		p.state.CompareAndSwap(poolerUnknown, poolerAbsent)
	}
	return nil
}

// lookupMode returns how lookups are executed. A prepared statement is cheaper for the database, but
// fails if a pooler in transaction mode prepares it in one process of the server and executes it in
// another.
func (p *pooler) lookupMode() pgx.QueryExecMode {
	if p.state.Load() == poolerAbsent {
		return pgx.QueryExecModeCacheStatement
	}
	return pgx.QueryExecModeCacheDescribe
}

// isStatementLost reports whether a prepared statement was missing in the server's process, or already
// there.
func isStatementLost(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == "26000" || pgErr.Code == "42P05") // invalid_sql_statement_name, duplicate_prepared_statement
}
