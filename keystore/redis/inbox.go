package redis

import (
	"slices"
	"sync"

	"extauthz/keystore"
)

// maxFollowed is the number of recorded lookups by a previous hash.
const maxFollowed = 1 << 16

// An inbox queues reports of changes, so that the connection, which also receives replies, does not
// wait for their processing. A change of a record also counts as a change of the previous hashes by
// which it was found: the server does not report these, since the pointers have not changed.
type inbox struct {
	ready chan struct{} // holds one element while there are reports

	mu       sync.Mutex
	changed  []keystore.Hash
	all      bool
	followed map[keystore.Hash][]keystore.Hash // the previous hashes that a record was found by
}

func newInbox() *inbox {
	return &inbox{ready: make(chan struct{}, 1), followed: make(map[keystore.Hash][]keystore.Hash)}
}

func (b *inbox) put(changed []keystore.Hash, all bool) {
	b.mu.Lock()
	b.changed, b.all = append(b.changed, changed...), b.all || all
	b.mu.Unlock()
	b.wake()
}

func (b *inbox) wake() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// follow records that the previous hash is being looked up, and refers to the record of current.
func (b *inbox) follow(previous, current keystore.Hash) {
	b.mu.Lock()
	defer b.mu.Unlock()
	known := b.followed[current]
	switch {
	case slices.Contains(known, previous):
	case known == nil && len(b.followed) >= maxFollowed:
		b.all = true // which covers them all
		b.wake()
	default:
		b.followed[current] = append(known, previous)
	}
}

// take returns the reported changes. The caller must invalidate them before it calls take again.
func (b *inbox) take() (changed []keystore.Hash, all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed, all = b.changed, b.all
	b.changed, b.all = nil, false
	for _, h := range changed {
		changed = append(changed, b.followed[h]...)
		delete(b.followed, h)
	}
	if all {
		clear(b.followed)
	}
	return changed, all
}

// inboxes are those of the watches of a store. The zero value is none.
type inboxes struct {
	mu   sync.Mutex
	list []*inbox
}

// add adds an inbox until remove is called.
func (i *inboxes) add(b *inbox) (remove func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.list = append(i.list, b)
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.list = slices.DeleteFunc(i.list, func(o *inbox) bool { return o == b })
	}
}

func (i *inboxes) follow(previous, current keystore.Hash) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, b := range i.list {
		b.follow(previous, current)
	}
}
