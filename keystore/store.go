package keystore

import (
	"context"
	"errors"
	"iter"
)

// ErrNotFound is returned by a store that does not hold the key. Any other error of a lookup means
// that the store could not answer.
var ErrNotFound = errors.New("no such key")

// ErrBusy is returned for a lookup that was not started, because too many are in flight.
var ErrBusy = errors.New("too many lookups in the key store are in flight")

// ErrUnreachable is what an error of a store may wrap if there is no connection to its server.
var ErrUnreachable = errors.New("the key store is unreachable")

// ErrNotInMemory is returned by a [MemoryStore] that would have to ask for the answer.
var ErrNotInMemory = errors.New("the key is not in memory")

// ErrPanicked is wrapped by the error of a lookup that panicked. A proxy must not let the request
// through because of it, since the caller may have caused it.
var ErrPanicked = errors.New("the key store panicked")

// ErrExists is returned for a key whose id or one of whose hashes is already in the store.
var ErrExists = errors.New("a key with that id or hash already exists")

// A Store finds keys by the hash of their secret.
type Store interface {
	// Lookup returns the key with this hash, the key whose previous secret has it, or
	// [ErrNotFound]. It does not check until when a previous secret works. Any other error means
	// that the store could not answer before ctx ended. A record that cannot be read completely is
	// returned as a Broken key, with the fields that could be read. Lookup is safe for
	// concurrent use, and sees a change of a key completely or not at all.
	Lookup(ctx context.Context, h Hash) (*Key, error)
}

// A StaleStore is a Store that may return the last known record of a key while it cannot confirm it.
type StaleStore interface {
	Store

	// LookupStale is Lookup, and also reports whether the record is stale: an older one than
	// Lookup would otherwise return, since the keys could not be asked for.
	LookupStale(ctx context.Context, h Hash) (k *Key, stale bool, err error)
}

// A MemoryStore is a Store that knows which answers it has in memory.
type MemoryStore interface {
	Store

	// LookupMemory returns what LookupStale would return at once, or [ErrNotInMemory] if that would
	// have to wait. It never blocks.
	LookupMemory(h Hash) (k *Key, stale bool, err error)
}

// An Editor lists and changes the keys of a store. Its methods are safe for concurrent use, also by
// several processes. A change is durable when its method returns. The hashes of a key are those of its
// secret and of its previous secret: each belongs to one key.
type Editor interface {
	// Keys yields the keys with ids greater than after, in the byte order of their ids. It
	// yields the first error and stops.
	Keys(ctx context.Context, after string) iter.Seq2[*Key, error]

	// Key returns the key with this id, or [ErrNotFound].
	Key(ctx context.Context, id string) (*Key, error)

	// Add writes a new key. It returns [ErrExists] if the store already holds its id or one of
	// its hashes, and the error of [Key.Validate] if the key is invalid.
	Add(ctx context.Context, k *Key) error

	// AddAbsent writes the keys whose ids are not in the store, and returns the stored keys of
	// the other ids, which it does not change. The ids must be distinct. It returns [ErrExists]
	// if another id holds one of the hashes. On an error, any of the keys may have been written,
	// each completely.
	AddAbsent(ctx context.Context, keys []*Key) (existing []*Key, err error)

	// Put writes keys, and replaces those whose ids are already in the store. To write a key that
	// is already there changes nothing. It returns [ErrExists] if another id holds one of the
	// hashes. On an error, any of the keys may have been written, each completely.
	Put(ctx context.Context, keys []*Key) error

	// Update calls change with a copy of the key and writes the result, atomically. It may call
	// change more than once. The id cannot change. It returns [ErrNotFound] if there is no such
	// key. If change returns an error, Update returns it and writes nothing.
	Update(ctx context.Context, id string, change func(*Key) error) error

	// Delete removes the key, or returns [ErrNotFound].
	Delete(ctx context.Context, id string) error
}

// An Invalidator caches keys, and looks them up again once they are invalidated.
type Invalidator interface {
	Invalidate(h Hash) // the key with this hash has changed
	InvalidateAll()    // any key may have changed
}

// A Watcher is a Store that reports changes of keys.
type Watcher interface {
	// Watch reports changes to inv until ctx ends, and returns ctx's error. It returns earlier
	// only if retrying is of no use. It calls Invalidate with the hashes of each key that was
	// added, changed (both the old and the new ones) or deleted, within a second of the change,
	// and InvalidateAll if changes may have been missed: once it first listens, and each time
	// that a lost connection is back. It calls inv from one goroutine.
	Watch(ctx context.Context, inv Invalidator) error
}
