package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"extauthz/keystore"
)

// A Memory is a simple store in memory that implements [keystore.Store], [keystore.Editor] and
// [keystore.Watcher]. Create one with [NewMemory]. It is safe for concurrent use.
type Memory struct {
	mu      sync.Mutex
	failure error // if not nil, the result of every call
	byID    map[string]*keystore.Key
	byHash  map[keystore.Hash]*keystore.Key // by the previous hash, too
	log     []keystore.Hash                 // of all changes
	changed chan struct{}                   // closed and replaced by every change
}

var (
	_ Backend          = (*Memory)(nil)
	_ keystore.Watcher = (*Memory)(nil)
)

// NewMemory returns a store that holds the keys. It panics if they cannot be added.
func NewMemory(keys ...*keystore.Key) *Memory {
	m := &Memory{
		byID:    make(map[string]*keystore.Key),
		byHash:  make(map[keystore.Hash]*keystore.Key),
		changed: make(chan struct{}),
	}
	for _, k := range keys {
		if err := m.Add(context.Background(), k); err != nil {
			panic(fmt.Sprintf("storetest: key %q: %v", k.ID, err))
		}
	}
	return m
}

// Fail makes all later calls fail with err, as if the store were unreachable, until Fail(nil).
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failure = err
}

// enter locks the store for one call, unless the call must fail.
func (m *Memory) enter(ctx context.Context) (leave func(), err error) {
	m.mu.Lock()
	if err := errors.Join(ctx.Err(), m.failure); err != nil {
		m.mu.Unlock()
		return nil, err
	}
	return m.mu.Unlock, nil
}

// Lookup implements [keystore.Store].
func (m *Memory) Lookup(ctx context.Context, h keystore.Hash) (*keystore.Key, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return found(m.byHash[h])
}

// Key implements [keystore.Editor].
func (m *Memory) Key(ctx context.Context, id string) (*keystore.Key, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return found(m.byID[id])
}

func found(k *keystore.Key) (*keystore.Key, error) {
	if k == nil {
		return nil, keystore.ErrNotFound
	}
	return k, nil
}

// Keys implements [keystore.Editor].
func (m *Memory) Keys(ctx context.Context, after string) iter.Seq2[*keystore.Key, error] {
	return func(yield func(*keystore.Key, error) bool) {
		leave, err := m.enter(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		keys := maps.Clone(m.byID)
		leave() // so that the caller may edit while it ranges
		for _, id := range slices.Sorted(maps.Keys(keys)) {
			if id > after && !yield(keys[id], nil) {
				return
			}
		}
	}
}

// Add implements [keystore.Editor].
func (m *Memory) Add(ctx context.Context, k *keystore.Key) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if m.byID[k.ID] != nil {
		return keystore.ErrExists
	}
	return m.set(k)
}

// AddAbsent implements [keystore.Editor].
func (m *Memory) AddAbsent(ctx context.Context, keys []*keystore.Key) (existing []*keystore.Key, err error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	for _, k := range keys {
		if held := m.byID[k.ID]; held != nil {
			existing = append(existing, held)
		} else if err := m.set(k); err != nil {
			return nil, fmt.Errorf("key %q: %w", k.ID, err)
		}
	}
	return existing, nil
}

// Put implements [keystore.Editor].
func (m *Memory) Put(ctx context.Context, keys []*keystore.Key) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for _, k := range keys {
		if err := m.set(k); err != nil {
			return fmt.Errorf("key %q: %w", k.ID, err)
		}
	}
	return nil
}

// Update implements [keystore.Editor].
func (m *Memory) Update(ctx context.Context, id string, change func(*keystore.Key) error) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	k, err := found(m.byID[id])
	if err != nil {
		return err
	}
	k = k.Clone()
	if err := change(k); err != nil {
		return err
	}
	if k.ID != id {
		return fmt.Errorf("the id of key %q cannot change", id)
	}
	return m.set(k)
}

// Delete implements [keystore.Editor].
func (m *Memory) Delete(ctx context.Context, id string) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	k, err := found(m.byID[id])
	if err != nil {
		return err
	}
	delete(m.byID, id)
	m.publish(m.forget(k)...)
	return nil
}

// set writes one key, new or not; m.mu is held.
func (m *Memory) set(k *keystore.Key) error {
	if err := k.Validate(); err != nil {
		return err
	}
	for _, h := range k.Hashes() {
		if other := m.byHash[h]; other != nil && other.ID != k.ID {
			return keystore.ErrExists
		}
	}
	k = k.Clone()
	hashes := k.Hashes()
	if old := m.byID[k.ID]; old != nil {
		hashes = append(hashes, m.forget(old)...)
	}
	m.byID[k.ID] = k
	for _, h := range k.Hashes() {
		m.byHash[h] = k
	}
	m.publish(hashes...)
	return nil
}

// forget removes the key's hashes from byHash and returns them; m.mu is held.
func (m *Memory) forget(k *keystore.Key) []keystore.Hash {
	hashes := k.Hashes()
	for _, h := range hashes {
		delete(m.byHash, h)
	}
	return hashes
}

func (m *Memory) publish(hashes ...keystore.Hash) {
	m.log = append(m.log, hashes...)
	close(m.changed)
	m.changed = make(chan struct{})
}

// Watch implements [keystore.Watcher].
func (m *Memory) Watch(ctx context.Context, inv keystore.Invalidator) error {
	reported := -1 // the number of entries of the log; -1: not listening yet
	for {
		m.mu.Lock()
		log, changed := m.log, m.changed
		m.mu.Unlock()
		if reported < 0 {
			inv.InvalidateAll()
			reported = len(log)
		}
		for ; reported < len(log); reported++ {
			inv.Invalidate(log[reported])
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
