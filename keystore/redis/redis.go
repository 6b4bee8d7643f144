// Package redis stores keys in Redis 7 or Valkey, which many replicas can share: one server, one
// behind sentinels, or a cluster.
//
// # Layout
//
// With the default prefix, a key is two entries:
//
//	{extauthz}:key:<hash>   a string: the record, one JSON object
//	{extauthz}:ids          a sorted set: the index, a member "<id> <hash>" for each key
//
// The hash is 64 lower-case hexadecimal digits, as `extauthz key hash` prints it. The record
// has the fields of a key file, without the hash:
//
//	{"id":"key_acme","ip_whitelist":["10.0.0.0/8"],"enabled":true,"expires":"2027-01-31T00:00:00Z"}
//
// A record is one string and not a Redis hash of fields, so that each write replaces it
// completely: no reader and no crash can see only some of its fields. It also takes less memory.
// A record with an unknown or duplicate field, a null, an empty list or any other invalid value
// is refused as a whole: see [keystore.Key.Broken].
//
// While a previous secret works after a rotation, the record has its hash, and a third entry
// refers from that hash to the record:
//
//	{extauthz}:key:<previous hash>   a string: {"current":"<hash>"}
//
// It is valid only while the record that it refers to has that previous hash.
//
// These commands of redis-cli write, find and revoke a key. The change is live on every replica as
// soon as one made by `extauthz key`:
//
//	MULTI
//	SET {extauthz}:key:<hash> '{"id":"key_acme","ip_whitelist":["10.0.0.0/8"]}'
//	ZADD {extauthz}:ids 0 "key_acme <hash>"
//	EXEC
//	ZRANGE {extauthz}:ids "[key_acme " "(key_acme!" BYLEX
//	DEL {extauthz}:key:<hash>
//
// A lookup reads only the record, so deleting it revokes the key at once. Its member of the index
// then has no effect, and the next edit of the key removes it. A record that is not in the index
// works, but `extauthz key` does not list it until it is written again. Edits keep the time to live
// of a record.
//
// Each edit by this package also adds an entry to {extauthz}:audit, a stream of the last 100,000 edits
// or so, with one field, edit: a line as docs/audit.md describes it.
//
// # Cluster
//
// The prefix is a hash tag, so that a store is in one slot, on one node. Each edit of the record
// and the index is therefore one atomic step: no crash leaves a key that works and should not.
// The drawback is that the store does not spread over a cluster. A key with a short whitelist
// takes about 450 bytes with its index entry, and a million keys 450 MB on that node. One node
// answers well over 100,000 lookups a second, of which few remain with the cache. Larger
// installations can use several stores with different prefixes, which are on different nodes.
// While the slot is being moved to another node, the channel of changes is down.
//
// # Changes
//
// [Store.Watch] uses server-assisted client-side caching (CLIENT TRACKING in broadcast mode):
// the server reports each write under the prefix by any client, keys that expired or were evicted,
// and a database that was flushed. Messages published by the writer would not cover changes by
// redis-cli, and keyspace notifications are off unless the server is configured for them. SWAPDB
// and the loss of a replica's master are not reported; Watch detects them with INFO.
//
// # Server settings
//
// The server must not evict keys: set maxmemory-policy to noeviction or one of the volatile-
// policies, since a key that was evicted is refused like one that does not exist. Watch warns about
// other policies, and about a database without keys ([Options.OnWarning]). The server's settings
// determine the durability of edits: with `appendonly yes` and `appendfsync always` they survive a
// crash. A failover can lose the last edits, including revocations, unless `min-replicas-to-write`
// and `min-replicas-max-lag` are set.
//
// A user that only looks up needs the commands
// +@connection +get +info +client|tracking +cluster|slots +role, and one that edits also
// +@scripting +@read +@write, on the keys ~{extauthz}:*.
package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/rueidis"

	"extauthz/keystore"
	"extauthz/redisclient"
)

// Options configure a [Store]. Hooks may be nil; they must return quickly and be safe for
// concurrent use.
type Options struct {
	// URL is the URL of the server, as described at [redisclient.Connect].
	URL string

	// Prefix is the prefix of all names in the store; "extauthz:" by default. In the names it has
	// braces, as in {extauthz}:, unless it already contains a hash tag.
	Prefix string

	// OnBroken is called after each lookup of an invalid record.
	OnBroken func(id string, err error)

	// OnChannel is called by Watch as [keystore.KeepListening] describes.
	OnChannel func(up bool, err error)

	// OnWarning is called by Watch for anything that puts keys at risk, such as a setting of the
	// server or a database without keys: each time the channel comes up, and after a flush.
	OnWarning func(err error)
}

// A Store looks up and edits keys in Redis. Create one with [Open]. It is safe for concurrent use.
// Its errors contain no password.
type Store struct {
	options Options
	names   names
	client  *redisclient.Client
	inboxes inboxes // of the watches
}

var (
	_ keystore.Store   = (*Store)(nil)
	_ keystore.Editor  = (*Store)(nil)
	_ keystore.Watcher = (*Store)(nil)
)

// Open returns a store in Redis. An unreachable server is not an error: Open waits for the first
// attempt to connect, at most until ctx ends. If that fails, the store retries in the background;
// see [Store.Ready]. The store must be closed.
func Open(ctx context.Context, o Options) (*Store, error) {
	n, err := newNames(o.Prefix)
	if err != nil {
		return nil, err
	}
	c, err := redisclient.Connect(ctx, o.URL)
	if err != nil {
		return nil, err
	}
	return &Store{options: o, names: n, client: c}, nil
}

// Close ends all connections. Calls in progress and later ones fail.
func (s *Store) Close() { s.client.Close() }

// Ready returns nil if keys can be looked up now, and otherwise the reason.
func (s *Store) Ready(ctx context.Context) error {
	if err := failure(s.client.Get(ctx, s.names.probe)); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	return nil
}

// Lookup implements [keystore.Store], in one round trip, or two for a previous secret. It waits for
// the answer until ctx ends, so ctx should have a deadline.
func (s *Store) Lookup(ctx context.Context, h keystore.Hash) (*keystore.Key, error) {
	k, err := s.lookup(ctx, h)
	if err != nil {
		return nil, err
	}
	if k.Broken != nil && s.options.OnBroken != nil {
		s.options.OnBroken(k.ID, k.Broken)
	}
	return k, nil
}

// pointerTries is how often a lookup follows a pointer, in case the key is rotated in the meantime.
const pointerTries = 4

func (s *Store) lookup(ctx context.Context, h keystore.Hash) (*keystore.Key, error) {
	for range pointerTries {
		m, err := s.get(ctx, h)
		if err != nil {
			return nil, err
		}
		current, ok := parsePointer(&m)
		if !ok {
			return read(h, &m), nil
		}
		s.inboxes.follow(h, current) // before reading the record, so that no change of it is missed
		m, err = s.get(ctx, current)
		if errors.Is(err, keystore.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if k := read(current, &m); k.Previous.Hash == h {
			return k, nil
		}
	}
	return nil, keystore.ErrNotFound
}

// get returns the entry under the name of a hash, which may not be a string, or
// [keystore.ErrNotFound].
func (s *Store) get(ctx context.Context, h keystore.Hash) (rueidis.RedisMessage, error) {
	m, err := s.client.Get(ctx, s.names.record(h)).ToMessage()
	switch {
	case rueidis.IsRedisNil(err):
		return m, keystore.ErrNotFound
	case errors.Is(err, redisclient.ErrBusy):
		return m, fmt.Errorf("redis: %w: %w", keystore.ErrBusy, err)
	case err != nil && !isWrongType(err):
		return m, fmt.Errorf("redis: %w", err)
	}
	return m, nil
}

// read returns the key of a record that GET returned. If it is not a string, the key is Broken.
func read(h keystore.Hash, m *rueidis.RedisMessage) *keystore.Key {
	data, err := m.AsBytes()
	if err != nil {
		k := &keystore.Key{Hash: h, Enabled: true}
		k.Break(errNotString)
		return k
	}
	return keystore.DecodeKey(h, data)
}

var errNotString = errors.New("not a string: write the record with SET, as one JSON object")

// isWrongType reports whether a command failed because the entry has another type.
func isWrongType(err error) bool {
	e, ok := errors.AsType[*rueidis.RedisError](err)
	return ok && strings.HasPrefix(e.Error(), "WRONGTYPE")
}
