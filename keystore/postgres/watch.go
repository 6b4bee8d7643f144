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

	retryFirst   = 100 * time.Millisecond
	retryLongest = time.Second
)

// Watch implements [keystore.Watcher]. It listens on a connection of its own for what the
// table's triggers tell, and asks the database for a sign of life each second. A database
// that is out of reach is tried again, at most a second after the last try ended, until ctx
// ends: it returns for nothing else.
func (s *Store) Watch(ctx context.Context, inv keystore.Invalidator) error {
	tell := func(up bool, err error) {
		if s.options.OnChannel != nil {
			s.options.OnChannel(up, err)
		}
	}
	wait, down := retryFirst, false
	for {
		wasUp, err := s.listen(ctx, inv, func() { tell(true, nil) })
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if wasUp {
			// What cut this connection has likely cut the pool's: a look-up should not
			// have to find that out.
			s.pool.Reset()
			wait = retryFirst
		}
		if wasUp || !down {
			tell(false, s.conn.failure(err))
			down = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, retryLongest)
	}
}

// listen tells inv of changes until the connection fails, and whether it ever stood.
func (s *Store) listen(ctx context.Context, inv keystore.Invalidator, up func()) (wasUp bool, err error) {
	cfg := s.conn.pool.ConnConfig.Copy()
	cfg.RuntimeParams["application_name"] += " watch"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return false, err
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
		return false, err
	}
	// Now, not earlier: from here on no change is missed.
	inv.InvalidateAll()
	up()
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
			return true, err
		default:
			if err := within(ctx, pingTimeout, conn.Ping); err != nil {
				return true, err
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
