package keystore

import (
	"context"
	"errors"
	"iter"
)

// ErrNotFound says that a store was asked and holds no such key. Any other error from a store
// says that it could not answer.
var ErrNotFound = errors.New("no such key")

// ErrBusy says that a look-up was not made, because too many are under way.
var ErrBusy = errors.New("too many look-ups in the key store are under way")

// ErrExists says that a key with the same id or the same hash is in the store already.
var ErrExists = errors.New("a key with that id or hash exists already")

// A Store finds keys by the hash of their secret.
type Store interface {
	// Lookup returns the key with this hash. It returns [ErrNotFound] where the store holds
	// none, and another error where it could not answer, or not before ctx ended. A record
	// that is there but cannot be read whole is returned as a key that is Broken, with what
	// could be read of it. Lookup is safe for concurrent use and sees each change of a key
	// whole or not at all.
	Lookup(ctx context.Context, h Hash) (*Key, error)
}

// An Editor lists and changes the keys of a store: it is what `extauthz key` works with. All
// its methods are safe for concurrent use, by several processes too, and a change is durable
// when its method returns.
type Editor interface {
	// Keys yields the keys whose id is after the given one, in byte order of their ids;
	// after "" all. It ends at the first error, which it yields.
	Keys(ctx context.Context, after string) iter.Seq2[*Key, error]

	// Key returns the key with this id, or [ErrNotFound].
	Key(ctx context.Context, id string) (*Key, error)

	// Add writes a new key. It returns [ErrExists] where its id or its hash is taken, and
	// what [Key.Validate] says where that is not nil.
	Add(ctx context.Context, k *Key) error

	// AddAbsent writes those of the keys whose id is not in the store, and returns the keys
	// that the store holds under the other ids; these it leaves as they are. It writes any
	// number of keys, no two with one id, faster than one by one. A hash that another id holds
	// is [ErrExists]. Where it fails, any of the keys may have been written, each whole.
	AddAbsent(ctx context.Context, keys []*Key) (existing []*Key, err error)

	// Put writes keys as they are given, new ones and those whose id is there already, in
	// any number and faster than one by one. A hash that another id holds is [ErrExists].
	// Put of what is there already changes nothing. Where it fails, any of the keys may have
	// been written, each whole.
	Put(ctx context.Context, keys []*Key) error

	// Update calls change with a copy of the key and writes what it made of it, as one step
	// that no other change comes between. The id cannot change. It returns [ErrNotFound]
	// where there is no such key, and an error of change as it is, with nothing written.
	Update(ctx context.Context, id string, change func(*Key) error) error

	// Delete removes the key, or returns [ErrNotFound].
	Delete(ctx context.Context, id string) error
}

// An Invalidator forgets what it knows of keys, so that it asks the store again before it
// lets such a key through.
type Invalidator interface {
	Invalidate(h Hash)
	InvalidateAll()
}

// A Watcher is a Store that can tell when keys change.
type Watcher interface {
	// Watch tells inv of every change until ctx ends, when it returns ctx's error; it
	// returns earlier only for what cannot be mended by trying again. It calls Invalidate
	// with the hash of each key that was added, changed (with its old hash and its new one)
	// or deleted, within a second of the change, and InvalidateAll wherever changes may
	// have been missed: once it first listens, and each time that a lost connection to the
	// store is back. It calls inv from one goroutine.
	Watch(ctx context.Context, inv Invalidator) error
}
