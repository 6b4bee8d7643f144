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

// A connection that was cut without a word is found lost after at most pingEvery +
// pingTimeout, about 3 s.
// A connection that was cut without a word is found lost after at most pingEvery +
// pingTimeout, about 3 s.
const (
	pingEvery   = time.Second
	pingTimeout = 2 * time.Second
)

// keysChannel is what the table's triggers notify.
const keysChannel = "extauthz_keys"

// Watch implements [keystore.Watcher]. It listens on a connection of its own for the
// notifications of the table's triggers, pings the database each second, and sends itself a
// notification through the pool every [proofEvery]: the channel is up only while that arrives. A
// database that cannot be reached is tried again, at most a second after the last try ended, until
// ctx ends.
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

	hadKeys bool // the table was seen with keys in it
}

// listen passes changes on until the connection fails, or what proves the channel does.
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
		_ = conn.Close(ctx) // it is of no more use, whatever it says
	}()
	go w.prove(ctx, channel, proofs)

	l := listener{watcher: w, conn: conn, channel: channel, up: up}
	defer func() {
		if l.isUp {
			// What cuts this connection has likely cut the pool's: a look-up should not
			// have to find that out.
			w.pool.Reset()
		}
	}()
	for {
		if err := l.step(ctx, proofs); err != nil {
			return err
		}
	}
}

// connectListener returns a connection that listens on both channels. It is one statement, so that a
// pooler passes it to one process of the server.
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

	last     proof // that was sent
	received int   // the number of the last proof that arrived
}

// step waits for one notification, or for pingEvery, and returns why the channel is no longer up.
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
		// Now, not earlier: from here on no change is missed.
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

// invalidate passes on the payload of a trigger's notification: hashes, or "all", as which anything
// else counts too.
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
