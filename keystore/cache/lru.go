package cache

import "extauthz/keystore"

// An lru is the records of the hashes that were used last, up to a number of them. It is one
// array and a map without pointers, which the garbage collector is through with in a fraction
// of the time that a list of as many elements takes: with 100,000 records that is a good part
// of what a check costs.
type lru struct {
	size  int
	slots []slot                  // the first is the ring's anchor: after it comes the one used last
	at    map[keystore.Hash]int32 // where in slots
	free  int32                   // the first of the slots without a record, which are linked by after; 0: none
}

// A slot holds the record of one hash, between that used just after it and just before it.
type slot struct {
	record        record
	hash          keystore.Hash
	before, after int32
}

func newLRU(size int) *lru {
	return &lru{size: size, slots: make([]slot, 1), at: make(map[keystore.Hash]int32)}
}

func (l *lru) len() int { return len(l.at) }

// get returns the record of a hash, which is thereby used, or nil. It is where it is until
// the next call of add.
func (l *lru) get(h keystore.Hash) *record {
	i, ok := l.at[h]
	if !ok {
		return nil
	}
	if l.slots[0].after != i {
		l.unlink(i)
		l.link(i)
	}
	return &l.slots[i].record
}

// peek is get for one that is not thereby used.
func (l *lru) peek(h keystore.Hash) *record {
	if i, ok := l.at[h]; ok {
		return &l.slots[i].record
	}
	return nil
}

// add sets the record of a hash, which is thereby used. Where there are too many then, the one
// that was not used for the longest time goes.
func (l *lru) add(h keystore.Hash, r record) {
	if old := l.get(h); old != nil {
		*old = r
		return
	}
	if len(l.at) >= l.size {
		l.remove(l.slots[l.slots[0].before].hash)
	}
	i := l.free
	if i != 0 {
		l.free = l.slots[i].after
	} else {
		i = int32(len(l.slots)) //nolint:gosec // a cache has fewer records
		l.slots = append(l.slots, slot{})
	}
	l.slots[i] = slot{record: r, hash: h}
	l.link(i)
	l.at[h] = i
}

func (l *lru) remove(h keystore.Hash) {
	i, ok := l.at[h]
	if !ok {
		return
	}
	delete(l.at, h)
	l.unlink(i)
	l.slots[i] = slot{after: l.free} // the key is let go
	l.free = i
}

// link puts a slot after the anchor.
func (l *lru) link(i int32) {
	first := l.slots[0].after
	l.slots[i].before, l.slots[i].after = 0, first
	l.slots[first].before = i
	l.slots[0].after = i
}

func (l *lru) unlink(i int32) {
	s := &l.slots[i]
	l.slots[s.before].after, l.slots[s.after].before = s.after, s.before
}
