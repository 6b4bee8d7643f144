package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"extauthz/keystore"
)

// A connection that broke silently is detected after at most beatEvery + beatTimeout, 2.5 s.
const (
	beatEvery   = 500 * time.Millisecond
	beatTimeout = 2 * time.Second
)

// Watch implements [keystore.Watcher]. It tracks changes on a separate connection to the node that
// lookups go to, with a heartbeat twice a second. It reconnects as [keystore.KeepListening] does.
func (s *Store) Watch(ctx context.Context, inv keystore.Invalidator) error {
	return keystore.KeepListening(ctx, func(ctx context.Context, up func()) error {
		return fmt.Errorf("redis: %w", s.listen(ctx, inv, up))
	}, s.options.OnChannel)
}

// listen reports changes to inv until the channel fails, and returns the reason.
func (s *Store) listen(ctx context.Context, inv keystore.Invalidator, up func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer t.conn.Close()
	if err := t.track(ctx); err != nil {
		return err
	}
	seen, err := t.state(ctx)
	if err != nil {
		return err
	}
	defer s.inboxes.add(t.inbox)()
	// Now, not earlier: from here on no change is missed.
	inv.InvalidateAll()
	up()
	s.warn(t.warnings(ctx, seen))
	go func() { cancel(t.beat(ctx, seen)) }()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.inbox.ready:
		}
		changed, all := t.inbox.take()
		for _, h := range changed {
			inv.Invalidate(h)
		}
		if all {
			// The database was flushed or swapped, or the connection was lost; in the latter case
			// cached records must stay in use.
			if err := t.alive(ctx); err != nil {
				return err
			}
			inv.InvalidateAll()
			s.warn(t.empty(ctx))
		}
	}
}

func (s *Store) warn(err error) {
	if err != nil && s.options.OnWarning != nil {
		s.options.OnWarning(err)
	}
}

// A tracker is a connection on which the server reports changes.
type tracker struct {
	client rueidis.Client
	conn   rueidis.DedicatedClient
	node   string // its address; "" in a cluster
	names  names
	inbox  *inbox
}

// connect returns a connection to the node that lookups go to.
func (s *Store) connect(ctx context.Context) (*tracker, error) {
	// Make a lookup first, which follows a failover or a slot that has moved.
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	if err := failure(s.client.Get(ctx, s.names.probe)); err != nil {
		return nil, err
	}
	client, err := s.client.Connected()
	if err != nil {
		return nil, err
	}
	t := &tracker{client: client, node: node(client), names: s.names, inbox: newInbox()}
	t.conn, _ = client.Dedicate()
	if err := t.alive(ctx); err != nil { // this picks the node, in a cluster
		t.conn.Close()
		return nil, err
	}
	return t, nil
}

// track makes the server report changes of records.
func (t *tracker) track(ctx context.Context) error {
	t.conn.SetOnInvalidations(func(names []rueidis.RedisMessage) {
		hashes := make([]keystore.Hash, 0, len(names))
		for i := range names {
			name, err := names[i].ToString()
			if h, ok := t.names.hash(name); ok && err == nil {
				hashes = append(hashes, h)
			}
		}
		t.inbox.put(hashes, names == nil)
	})
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	return t.conn.Do(ctx, t.conn.B().ClientTracking().On().Prefix().Prefix(t.names.records).Bcast().Build()).Error()
}

// beat returns an error if the node can no longer be relied on to report changes. A change that the
// node does not report, but that beat detects, counts as a change of all keys.
func (t *tracker) beat(ctx context.Context, seen state) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(beatEvery):
		}
		if err := t.alive(ctx); err != nil {
			return err
		}
		if n := node(t.client); n != t.node {
			return fmt.Errorf("the master is now %s", n)
		}
		now, err := t.state(ctx)
		if err != nil {
			return err
		}
		if now.swappedSince(seen) {
			t.inbox.put(nil, true)
		}
		seen = now
	}
}

// alive queries a name that does not exist. A cluster node that has lost the slot, or is moving it
// away, returns an error.
func (t *tracker) alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	return failure(t.conn.Do(ctx, t.conn.B().Get().Key(t.names.probe).Build()))
}

// failure returns the error of a lookup that was not answered.
func failure(r rueidis.RedisResult) error {
	if err := r.Error(); !rueidis.IsRedisNil(err) {
		return err
	}
	return nil
}

// node returns the address of the node that lookups go to.
func node(client rueidis.Client) string {
	if client.Mode() != rueidis.ClientModeCluster {
		for addr := range client.Nodes() {
			return addr
		}
	}
	return ""
}
