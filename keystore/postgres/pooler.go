package postgres

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A pooler is what a store knows of a connection pooler, such as pgbouncer, between it and the
// database.
type pooler struct{ state atomic.Int32 }

const (
	poolerUnknown int32 = iota
	poolerAbsent
	poolerPresent // for good, once it was seen
)

// inspect finds out whether there is a pooler: it gives its clients process numbers of its own, since
// it shares the server's processes among them.
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

// lookupMode is how look-ups are executed. A prepared statement costs the database less, but is lost
// if a pooler in transaction mode passes it to one of the server's processes and the next query to
// another.
func (p *pooler) lookupMode() pgx.QueryExecMode {
	if p.state.Load() == poolerAbsent {
		return pgx.QueryExecModeCacheStatement
	}
	return pgx.QueryExecModeCacheDescribe
}

// isStatementLost reports whether the error is that of a prepared statement that another process of
// the server has, or that this one has already.
func isStatementLost(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == "26000" || pgErr.Code == "42P05") // invalid_sql_statement_name, duplicate_prepared_statement
}
