package postgres

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"extauthz/keystore"
)

// A connection that was cut silently is noticed after at most pingEvery + pingTimeout, about 3 s.
const (
	pingEvery   = time.Second
	pingTimeout = 2 * time.Second
)

// keysChannel is the channel that the table's triggers notify.
const keysChannel = "extauthz_keys"

// Watch implements [keystore.Watcher]. It listens for the notifications of the table's triggers on a
// connection of its own, and pings the database each second. Every 10 s it sends itself a notification
// through the pool: the channel is up only while these arrive. It reconnects as
// [keystore.KeepListening] does.
func (s *Store) Watch(ctx context.Context, inv keystore.Invalidator) error {
	w := &watcher{Store: s, inv: inv}
	return keystore.KeepListening(ctx, func(ctx context.Context, up func()) error {
		return s.conn.failure(w.listen(ctx, up))
	}, s.options.OnChannel)
}

// A watcher is one run of Watch.
type watcher struct {
	*Store
	inv keystore.Invalidator

	hadKeys bool // the table was not empty at the last proof
}

// listen reports changes until the connection or a proof fails.
func (w *watcher) listen(ctx context.Context, up func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	proofs := make(chan proof, 1)
	channel := w.proofChannel()
	conn, err := w.connectListener(ctx, channel)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
		defer cancel()
		_ = conn.Close(ctx) // an error makes no difference
	}()
	go w.prove(ctx, channel, proofs)

	l := listener{watcher: w, conn: conn, channel: channel, up: up}
	defer func() {
		if l.isUp {
			// The pool's connections are probably lost as well: no lookup should have to
			// wait for one of them to fail.
			w.pool.Reset()
		}
	}()
	for {
		if err := l.step(ctx, proofs); err != nil {
			return err
		}
	}
}

// connectListener returns a connection that listens on both channels. It sends both LISTENs at once,
// so that a pooler passes them to the same process of the server.
func (w *watcher) connectListener(ctx context.Context, channel string) (*pgx.Conn, error) {
	cfg, err := w.listenOn.current()
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["application_name"] += " watch"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, w.listenOn.failure(err)
	}
	if err := within(ctx, pingTimeout, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `LISTEN `+keysChannel+`; LISTEN `+channel)
		return err
	}); err != nil {
		_ = conn.Close(ctx)
		return nil, err
	}
	return conn, nil
}

// A listener is one connection of a watcher.
type listener struct {
	*watcher
	conn    *pgx.Conn
	channel string
	up      func()
	isUp    bool

	last     proof // the last one sent
	received int   // the number of the last one received
}

// step waits for a notification, for pingEvery at most. It returns an error when the channel is lost.
func (l *listener) step(ctx context.Context, proofs <-chan proof) error {
	var n *pgconn.Notification
	err := within(ctx, pingEvery, func(ctx context.Context) error {
		var err error
		n, err = l.conn.WaitForNotification(ctx)
		return err
	})
	silent := err != nil && ctx.Err() == nil && pgconn.Timeout(err) && !l.conn.IsClosed()
	if err != nil && !silent {
		return err
	}
	select {
	case p := <-proofs:
		if err := l.judge(p); err != nil {
			return err
		}
	default:
	}
	switch {
	case n != nil && n.Channel == l.channel:
		l.received, _ = strconv.Atoi(n.Payload)
	case n != nil && l.isUp:
		invalidate(l.inv, n.Payload)
	}
	pending := l.last.number > l.received
	switch {
	case l.last.number > 0 && !pending && !l.isUp:
		// Not earlier: only from here on is no change missed.
		l.isUp = true
		l.inv.InvalidateAll()
		l.up()
	case pending && time.Since(l.last.sent) > proofTimeout:
		return l.unproven()
	case silent && !pending:
		return within(ctx, pingTimeout, l.conn.Ping)
	}
	return nil
}

func within(ctx context.Context, d time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return do(ctx)
}

// invalidate reports the changes in a trigger's payload: a list of hashes, or "all". Any other payload
// counts as "all".
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
