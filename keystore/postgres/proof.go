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
	proofTimeout = 2 * time.Second // for the notification to arrive
)

// A proof is a notification that a watcher sends to itself, and the state of the table at that time.
type proof struct {
	number   int // from 1
	sent     time.Time
	table    int64    // the object id, which changes when the table is replaced
	disabled []string // triggers that do not notify
	hasKeys  bool
	err      error // the proof could not be sent
}

// proveChannel sends the notification and queries the state of the table.
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

// proofChannel returns the channel for this store's proofs. It never changes, so that channels do not
// accumulate on the connections of a pooler.
func (s *Store) proofChannel() string { return "extauthz_proof_" + s.id }

// prove sends proofs through the pool until ctx ends.
//
// It uses another connection than the one that listens. Through a pooler in transaction mode a client
// may receive its own notification, if LISTEN and NOTIFY happen to reach the same process of the server,
// but no others.
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

// judge evaluates a proof that was sent. It returns an error if the channel cannot be up.
func (l *listener) judge(p proof) error {
	pgErr, answered := errors.AsType[*pgconn.PgError](p.err)
	switch {
	case answered && (pgErr.Code == "42P01" || pgErr.Code == "3F000"): // no such table, schema
		return p.err
	case p.err != nil && l.isUp:
		return nil // a problem of the pool; pings check the connection that listens
	case p.err != nil:
		return p.err
	case len(p.disabled) > 0:
		return fmt.Errorf("changes are not published: these triggers of extauthz.keys are disabled or missing: %s", strings.Join(p.disabled, ", "))
	}
	if l.isUp && p.table != l.last.table {
		l.inv.InvalidateAll() // the table was replaced
	}
	if l.hadKeys && !p.hasKeys && l.options.OnWarning != nil {
		l.options.OnWarning(errors.New("postgres: extauthz.keys is empty now: every key is refused as unknown"))
	}
	l.hadKeys = p.hasKeys
	l.last = p
	return nil
}

// unproven returns the error for a proof that did not arrive.
func (l *listener) unproven() error {
	if l.options.ListenDSN != "" {
		return errors.New("notifications do not arrive: listen must reach the same database as dsn, and not through a connection pooler in transaction mode")
	}
	return errors.New("notifications do not arrive: LISTEN does not work through a connection pooler in transaction mode, such as pgbouncer. Write listen: beside dsn:, with a dsn that connects to the database directly, or set the pooler to pool_mode=session")
}
