package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"extauthz/keystore"
)

// A connection that was cut without a word is found lost after at most pingEvery +
// pingTimeout, about 3 s.
const (
	pingEvery   = time.Second
	pingTimeout = 2 * time.Second
)

// Watch implements [keystore.Watcher]. It listens on a connection of its own for the
// notifications of the table's triggers, and pings the database each second. A database that
// cannot be reached is tried again, at most a second after the last try ended, until ctx ends.
func (s *Store) Watch(ctx context.Context, inv keystore.Invalidator) error {
	return keystore.KeepListening(ctx, func(ctx context.Context, up func()) error {
		err := s.listen(ctx, inv, up)
		return s.conn.failure(err)
	}, s.options.OnChannel)
}

// listen passes changes to inv until the connection fails.
func (s *Store) listen(ctx context.Context, inv keystore.Invalidator, up func()) error {
	cfg, err := s.conn.current()
	if err != nil {
		return err
	}
	cfg.RuntimeParams["application_name"] += " watch"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
		defer cancel()
		_ = conn.Close(ctx) // it is of no more use, whatever it says
	}()
	if err := within(ctx, pingTimeout, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `LISTEN extauthz_keys`)
		return err
	}); err != nil {
		return err
	}
	// Now, not earlier: from here on no change is missed.
	inv.InvalidateAll()
	up()
	// What cuts this connection has likely cut the pool's: a look-up should not have to find
	// that out.
	defer s.pool.Reset()
	for {
		var n *pgconn.Notification
		err := within(ctx, pingEvery, func(ctx context.Context) error {
			var err error
			n, err = conn.WaitForNotification(ctx)
			return err
		})
		switch {
		case err == nil:
			invalidate(inv, n.Payload)
		case ctx.Err() != nil || !pgconn.Timeout(err) || conn.IsClosed():
			return err
		default:
			if err := within(ctx, pingTimeout, conn.Ping); err != nil {
				return err
			}
		}
	}
}

func within(ctx context.Context, d time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return do(ctx)
}

// invalidate reads what a trigger told: hashes, or "all", as which anything else counts too.
func invalidate(inv keystore.Invalidator, payload string) {
	var hashes []keystore.Hash
	for field := range strings.SplitSeq(payload, ",") {
		h, err := keystore.ParseHash(field)
		if err != nil {
			inv.InvalidateAll()
			return
		}
		hashes = append(hashes, h)
	}
	for _, h := range hashes {
		inv.Invalidate(h)
	}
}
