// Package postgres stores keys in a PostgreSQL database that many replicas can share. It works with
// PostgreSQL 13 and later, and is tested with 15.
//
// Keys are rows of the table extauthz.keys, whose columns are the fields of a key file. Any client may
// edit them. [Migrate] creates the table. A server that only reads needs
//
//	GRANT USAGE ON SCHEMA extauthz TO …;
//	GRANT SELECT ON extauthz.keys, extauthz.schema_version TO …;
//
// and `extauthz key` needs INSERT, UPDATE and DELETE on extauthz.keys, and TEMPORARY on the database
// (which all users have by default). Triggers record each edit in extauthz.audit, which only
// [Store.History] needs a privilege for: SELECT.
//
// [Store.Watch] uses one connection in addition to the pool, for LISTEN, which does not work through a
// connection pooler in transaction mode. Then Watch reports the channel as down; set
// [Options.ListenDSN] to bypass the pooler.
package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"extauthz/keystore"
)

// Options configure a [Store]. The functions may be nil. They must return quickly and be safe for
// concurrent use.
type Options struct {
	// DSN is a URL, such as postgres://extauthz@db:5432/extauthz?sslmode=verify-full, or the
	// keyword form of libpq. Missing settings come from the PG… environment variables and the
	// password file. sslmode, sslrootcert, sslcert and sslkey configure TLS, pool_max_conns
	// (default: 8) and others the pool: see pgxpool.ParseConfig. The files are read again for
	// each new connection.
	//
	// If it names several hosts, only one that accepts writes is used, unless it sets
	// target_session_attrs: a standby that lags would still return a key that was just revoked.
	DSN string

	// ListenDSN, if not empty, replaces DSN for LISTEN. It must reach the same database, without
	// a connection pooler in transaction mode.
	ListenDSN string

	// OnBroken is called for each lookup of a row that cannot be read completely.
	OnBroken func(id string, err error)

	// OnChannel is called by Watch as [keystore.KeepListening] describes.
	OnChannel func(up bool, err error)

	// OnWarning is called by Watch when the table has become empty.
	OnWarning func(err error)
}

// A Store looks up and edits keys in a database. Create one with [Open]. It is safe for concurrent use.
// Its errors contain no password.
type Store struct {
	pool     *pgxpool.Pool
	conn     *connection
	listenOn *connection // for Watch
	id       string      // random
	pooler   pooler

	proofEvery time.Duration
	options    Options
}

var (
	_ keystore.Store   = (*Store)(nil)
	_ keystore.Editor  = (*Store)(nil)
	_ keystore.Watcher = (*Store)(nil)
)

// grace is how long a query is still waited for after its deadline. To cancel it would close its
// connection, and new connections are expensive for a database that is slow for a moment.
const grace = time.Second

// Open returns a store in the database. It connects on first use, so an unreachable database is not an
// error: see [Store.Ready]. The store must be closed.
func Open(ctx context.Context, o Options) (*Store, error) {
	conn, err := parseDSN(o.DSN)
	if err != nil {
		return nil, err
	}
	cfg := conn.pool.Copy()
	cfg.ConnConfig.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: c.Conn(), DeadlineDelay: grace}
	}
	s := &Store{conn: conn, listenOn: conn, id: strings.ToLower(rand.Text()), proofEvery: proofEvery, options: o}
	if o.ListenDSN != "" {
		if s.listenOn, err = parseDSN(o.ListenDSN); err != nil {
			return nil, fmt.Errorf("the dsn to listen on: %w", err)
		}
	}
	cfg.AfterConnect = s.pooler.inspect
	if s.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, conn.failure(err)
	}
	return s, nil
}

// Close waits for the calls in flight and closes all connections.
func (s *Store) Close() { s.pool.Close() }

// Ready returns nil if keys can be looked up now, and otherwise the reason.
func (s *Store) Ready(ctx context.Context) error {
	var version int
	if err := s.pool.QueryRow(ctx, selectVersion).Scan(&version); err != nil {
		return s.conn.failure(err)
	}
	if version < latest() {
		return fmt.Errorf("postgres: the schema is at version %d, and this program needs %d: run `extauthz store migrate`", version, latest())
	}
	if _, err := s.Lookup(ctx, keystore.Hash{}); !errors.Is(err, keystore.ErrNotFound) {
		return err
	}
	return nil
}

// Lookup implements [keystore.Store] by one indexed query. It waits for a free connection of the pool
// until ctx ends, and for the answer up to a second longer, so that the connection can be kept.
func (s *Store) Lookup(ctx context.Context, h keystore.Hash) (*keystore.Key, error) {
	mode := s.conn.pool.ConnConfig.DefaultQueryExecMode
	if !s.conn.setsMode {
		mode = s.pooler.lookupMode()
	}
	found, err := collect(s.pool.Query(ctx, lookupKeys, mode, h[:]))
	if err != nil {
		if isStatementLost(err) {
			s.pooler.state.Store(poolerPresent)
		}
		return nil, s.conn.failure(err)
	}
	if len(found) == 0 {
		return nil, keystore.ErrNotFound
	}
	k := found[0]
	if len(found) > 1 && k.Hash != h { // a key that has the secret now comes before one that had it
		k = found[1]
	}
	if k.Broken != nil && s.options.OnBroken != nil {
		s.options.OnBroken(k.ID, k.Broken)
	}
	return k, nil
}
