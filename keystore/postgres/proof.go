package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	proofEvery   = 10 * time.Second
	proofTimeout = 2 * time.Second // from when the notification was sent until it must have arrived
)

// A proof is a notification that a watcher sends to itself, and what the database said of the table
// then.
type proof struct {
	number   int // from 1
	sent     time.Time
	table    int64    // its object id; another one is another table of that name
	disabled []string // triggers that should notify and do not
	hasKeys  bool
	err      error // it could not be sent
}

// proveChannel sends a notification and describes the table.
const proveChannel = `
SELECT pg_notify($1, $2),
  to_regclass('extauthz.keys')::oid::bigint,
  ARRAY(
    SELECT name FROM (VALUES
      ('notify_insert', 'OA'), ('notify_update', 'OA'), ('notify_delete', 'OA'), ('notify_truncate', 'OA'), ('notify_replicated', 'RA')
    ) AS expected (name, states)
    WHERE NOT EXISTS (
      SELECT FROM pg_trigger
      WHERE tgrelid = to_regclass('extauthz.keys') AND tgname = name AND strpos(states, tgenabled::text) > 0)
    AND (name <> 'notify_replicated' OR EXISTS (
      SELECT FROM pg_subscription_rel WHERE srrelid = to_regclass('extauthz.keys')))),
  EXISTS (SELECT FROM extauthz.keys)`

// proofChannel returns the channel that proofs of this store are sent on. It is the same each time, so
// that a pooler does not collect channels.
func (s *Store) proofChannel() string { return "extauthz_proof_" + s.id }

// prove sends proofs through the pool until ctx ends.
//
// They take another connection than the one that listens: behind a pooler in transaction mode, which
// takes LISTEN away, a client still gets its own notification if both statements happen to reach the
// same process of the server.
func (w *watcher) prove(ctx context.Context, channel string, proofs chan<- proof) {
	for number := 1; ; number++ {
		p := proof{number: number}
		p.err = within(ctx, pingTimeout, func(ctx context.Context) error {
			return w.pool.QueryRow(ctx, proveChannel, channel, strconv.Itoa(number)).Scan(nil, &p.table, &p.disabled, &p.hasKeys)
		})
		p.sent = time.Now()
		select {
		case <-ctx.Done():
			return
		case proofs <- p:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(w.proofEvery):
		}
	}
}

// judge takes a proof that was sent, and returns why the channel cannot be up.
func (l *listener) judge(p proof) error {
	pgErr, answered := errors.AsType[*pgconn.PgError](p.err)
	switch {
	case answered && (pgErr.Code == "42P01" || pgErr.Code == "3F000"): // no such table, schema
		return p.err
	case p.err != nil && l.isUp:
		return nil // the pool's trouble; the connection that listens has its pings
	case p.err != nil:
		return p.err
	case len(p.disabled) > 0:
		return fmt.Errorf("changes are not published, for these triggers of extauthz.keys are disabled or missing: %s", strings.Join(p.disabled, ", "))
	}
	if l.isUp && p.table != l.last.table {
		l.inv.InvalidateAll() // restored from a dump, or swapped
	}
	if l.hadKeys && !p.hasKeys && l.options.OnWarning != nil {
		l.options.OnWarning(errors.New("postgres: extauthz.keys is empty now: every key is refused as unknown"))
	}
	l.hadKeys = p.hasKeys
	l.last = p
	return nil
}

// unproven says why a proof that was sent does not arrive.
func (l *listener) unproven() error {
	if l.options.ListenDSN != "" {
		return errors.New("notifications do not arrive: the dsn to listen on must reach the database that the dsn for look-ups does, and through no connection pooler in transaction mode")
	}
	return errors.New("notifications do not arrive: a connection pooler in transaction mode, such as pgbouncer, takes LISTEN away. Write listen: beside dsn:, with a dsn that reaches the database itself, or set the pooler to pool_mode=session")
}
