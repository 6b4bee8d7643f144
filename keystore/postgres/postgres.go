// Package postgres keeps keys in a PostgreSQL database, for many replicas to share. It works
// with PostgreSQL 13 and later, and is tested on 15.
//
// Keys are rows of the table extauthz.keys, whose columns are the fields of a key file; any
// client may edit them. [Migrate] makes it. A server that only reads needs
//
//	GRANT USAGE ON SCHEMA extauthz TO …;
//	GRANT SELECT ON extauthz.keys, extauthz.schema_version TO …;
//
// and `extauthz key` needs INSERT, UPDATE and DELETE on extauthz.keys, and TEMPORARY on the
// database (which everyone has by default).
//
// [Store.Watch] holds one connection beside the pool, for LISTEN. A connection pooler in transaction
// mode takes that away; then the watch reports that the channel is down, and [Options.ListenDSN]
// leads past the pooler.
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

// Options say where the keys are and who hears of trouble. Hooks may be nil; they must be
// quick and safe for concurrent use.
type Options struct {
	// DSN is a URL, such as postgres://extauthz@db:5432/extauthz?sslmode=verify-full, or the
	// keyword form of libpq. What it leaves out comes from the PG… environment variables
	// and the password file. TLS is set by sslmode, sslrootcert, sslcert and sslkey; the
	// pool by pool_max_conns (8 by default) and its like; see pgxpool.ParseConfig.
	//
	// Where it names several hosts, only one that takes writes is used, unless
	// target_session_attrs says otherwise: a standby that lags would still tell of a key
	// that was just revoked.
	DSN string

	// ListenDSN, if not empty, is what Watch listens on in place of DSN: the same database, by a
	// path without a connection pooler that takes LISTEN away.
	ListenDSN string

	// OnBroken hears of each look-up that found a row that cannot be read whole.
	OnBroken func(id string, err error)

	// OnChannel hears when the channel that tells of changes comes up (err is nil) and when
	// it goes down, with why. It is called by Watch, once for each turn; a channel that has
	// never been up goes down once.
	OnChannel func(up bool, err error)

	// OnWarning, if non-nil, is called by Watch for what makes the database a doubtful place for
	// keys: a table that was emptied.
	OnWarning func(err error)
}

// A Store finds and edits keys in a database. Make one with [Open]. It is safe for concurrent
// use. Its errors hold no password.
type Store struct {
	pool     *pgxpool.Pool
	conn     *connection
	listenOn *connection // what Watch uses
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

// grace is how long a query is still waited for once its time is over. To give it up costs its
// connection, and to make new ones is the last thing that a database that was slow for a
// moment, or a machine that is, has time for.
const grace = time.Second

// Open returns a store on the database. It connects when it is first asked, so a database
// that is out of reach is no error: [Store.Ready] tells. The store must be closed.
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

// Close waits for the calls that are under way and closes every connection.
func (s *Store) Close() { s.pool.Close() }

// Ready returns nil where keys can be looked up now, and otherwise why not.
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

// Lookup implements [keystore.Store]. It is one indexed, prepared query. It waits for a
// connection of the pool where all are in use, until ctx ends, and for an answer up to a
// second longer, for the sake of the connection.
func (s *Store) Lookup(ctx context.Context, h keystore.Hash) (*keystore.Key, error) {
	mode := s.conn.pool.ConnConfig.DefaultQueryExecMode
	if !s.conn.setsMode {
		mode = s.pooler.lookupMode()
	}
	k, err := one(s.pool.Query(ctx, selectKeys+` WHERE hash = $1`, mode, h[:]))
	if err != nil {
		if isStatementLost(err) {
			s.pooler.state.Store(poolerPresent)
		}
		return nil, s.conn.failure(err)
	}
	if k.Broken != nil && s.options.OnBroken != nil {
		s.options.OnBroken(k.ID, k.Broken)
	}
	return k, nil
}
