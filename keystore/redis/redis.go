// Package redis keeps keys in Redis 7 or Valkey, for many replicas to share: one server, one
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
// A record is one string and not a Redis hash of fields, because each write then replaces it
// as a whole: no reader and no crash can come between two fields, one of which may be the
// whitelist. It also takes less memory. A record with an unknown or duplicate field, a null, an
// empty list or anything else that is invalid is refused as a whole: see [keystore.Key.Broken].
//
// While a rotation's grace lasts, the record has the hash of the previous secret, and a third entry
// leads from there to the record:
//
//	{extauthz}:key:<previous hash>   a string: {"current":"<hash>"}
//
// It counts only while the record that it leads to names that previous hash.
//
// With redis-cli, a key is written, found, and revoked like this; every replica sees such a
// change as soon as one made by `extauthz key`:
//
//	MULTI
//	SET {extauthz}:key:<hash> '{"id":"key_acme","ip_whitelist":["10.0.0.0/8"]}'
//	ZADD {extauthz}:ids 0 "key_acme <hash>"
//	EXEC
//	ZRANGE {extauthz}:ids "[key_acme " "(key_acme!" BYLEX
//	DEL {extauthz}:key:<hash>
//
// A look-up reads the record alone, so deleting it revokes the key at once. What then stays in
// the index has no effect, and the next edit of the key removes it. A record that is not in the
// index works, but `extauthz key` does not list it until it is written again. Edits keep the time
// to live of a record.
//
// Each edit by this package also adds an entry to {extauthz}:audit, a stream of the last 100,000 edits
// or so, with one field, edit: a line as docs/audit.md describes it.
//
// # Cluster
//
// The prefix is a hash tag, so that all of a store is in one slot, on one node. That makes each
// edit of the record and the index one atomic step: no crash leaves a key that works and should
// not. The price is that the store does not spread over a
// cluster. A key with a short whitelist takes about 450 bytes with its index entry, a million
// of them 450 MB there; and one node answers well over 100,000 look-ups a second, of which
// the cache leaves it few. Stores that need more have prefixes of their own, which fall on
// other nodes. While that one slot is moved to another node, the channel of changes is down.
//
// # Changes
//
// [Store.Watch] uses server-assisted client-side caching (CLIENT TRACKING in broadcast mode):
// the server itself reports each write under the prefix, whoever made it, keys that expired or
// were evicted, and a database that was flushed. Messages published by the writer would miss what
// redis-cli does, and keyspace notifications are off unless the server is configured for them.
// SWAPDB and the loss of a replica's master are not reported; Watch finds them with INFO.
//
// # Server settings
//
// The server must not evict: with a maxmemory-policy other than noeviction, or a volatile-
// one, a key that was evicted is refused as one that does not exist. Watch warns of that, and of
// a database without keys ([Options.OnWarning]). How durable an edit is, the server decides: with `appendonly yes` and
// `appendfsync always` it survives a crash. A failover can lose the last edits, a revocation
// among them, unless `min-replicas-to-write` and `min-replicas-max-lag` are set.
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
	// URL names the Redis, as [redisclient.Connect] describes it.
	URL string

	// Prefix begins the name of everything in the store; "extauthz:" by default. Names have
	// it in braces, as {extauthz}:, unless it has a hash tag of its own.
	Prefix string

	// OnBroken is called after each look-up that found a record with an error in it.
	OnBroken func(id string, err error)

	// OnChannel is called by Watch when the channel that reports changes comes up (err is nil)
	// and when it goes down, with the reason. A channel that has never been up goes down once.
	OnChannel func(up bool, err error)

	// OnWarning is called by Watch with what puts keys at risk, such as a setting of the server
	// or a database without keys: each time that the channel comes up, and after a flush.
	OnWarning func(err error)
}

// A Store finds and edits keys in Redis. Make one with [Open]. It is safe for concurrent use.
// Its errors hold no password.
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

// Open returns a store in Redis. A server that is out of reach is no error: Open waits for the
// first attempt to connect, at most until ctx ends, and where that fails the store retries in the
// background; [Store.Ready] reports it. The store must be closed.
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

// Close ends all connections. Calls that are under way fail, and so do later ones.
func (s *Store) Close() { s.client.Close() }

// Ready returns nil when look-ups can be answered, and otherwise why not.
func (s *Store) Ready(ctx context.Context) error {
	if err := failure(s.client.Get(ctx, s.names.probe)); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	return nil
}

// Lookup implements [keystore.Store], in one round trip, or in two for a previous secret. It waits for
// the answer until ctx ends, which should therefore have a deadline.
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

// pointerTries is how often a look-up follows a pointer, in case that the key is rotated meanwhile.
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
		s.inboxes.follow(h, current) // before the record is read, so that no change of it is missed
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

// get returns what is stored under the name of a hash, which may not be a string, or
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

// read returns the key of a record as GET answered it. Where it is no string, the key is
// broken.
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

// isWrongType reports whether a command met an entry of another type than it works on.
func isWrongType(err error) bool {
	e, ok := errors.AsType[*rueidis.RedisError](err)
	return ok && strings.HasPrefix(e.Error(), "WRONGTYPE")
}
