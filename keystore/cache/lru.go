package cache

import "extauthz/keystore"

// An lru holds the records of the most recently used hashes. It is one array and a map without
// pointers, which the garbage collector scans in a fraction of the time of a linked list: with
// 100,000 records, that is a considerable part of the cost of a check.
type lru struct {
	size  int
	slots []slot                  // a ring: after the anchor comes the most recently used
	at    map[keystore.Hash]int32 // the slot of a hash
	free  int32                   // the first free slot; they are linked by after; 0: none

	walking bool // the cursor is in the ring
}

// The first two slots hold no record.
const (
	anchor int32 = iota
	cursor       // next returns the record after it
)

// A slot holds the record of one hash, between its neighbors in the order of use.
type slot struct {
	record        record
	hash          keystore.Hash
	before, after int32
}

func newLRU(size int) *lru {
	return &lru{size: size, slots: make([]slot, 2), at: make(map[keystore.Hash]int32)}
}

func (l *lru) len() int { return len(l.at) }

// get returns the record of a hash, or nil, and marks it as used. The pointer is valid until the next
// call of add.
func (l *lru) get(h keystore.Hash) *record {
	i, ok := l.at[h]
	if !ok {
		return nil
	}
	if l.slots[anchor].after != i {
		l.unlink(i)
		l.link(i, anchor)
	}
	return &l.slots[i].record
}

// peek is get without marking the record as used.
func (l *lru) peek(h keystore.Hash) *record {
	if i, ok := l.at[h]; ok {
		return &l.slots[i].record
	}
	return nil
}

// add sets the record of a hash. A new record is marked as used, and evicts the least recently used
// one if there are too many.
func (l *lru) add(h keystore.Hash, r record) {
	if old := l.peek(h); old != nil {
		*old = r
		return
	}
	l.evict(l.size - 1)
	i := l.free
	if i != 0 {
		l.free = l.slots[i].after
	} else {
		i = int32(len(l.slots)) //nolint:gosec // a cache has fewer records
		l.slots = append(l.slots, slot{})
	}
	l.slots[i] = slot{record: r, hash: h}
	l.link(i, anchor)
	l.at[h] = i
}

// resize changes how many records there may be, and evicts the least recently used ones beyond that.
func (l *lru) resize(size int) {
	l.size = size
	l.evict(size)
}

// evict removes the least recently used records until n are left.
func (l *lru) evict(n int) {
	for len(l.at) > n {
		oldest := l.slots[anchor].before
		if oldest == cursor {
			oldest = l.slots[cursor].before
		}
		l.remove(l.slots[oldest].hash)
	}
}

func (l *lru) remove(h keystore.Hash) {
	i, ok := l.at[h]
	if !ok {
		return
	}
	delete(l.at, h)
	l.unlink(i)
	l.slots[i] = slot{after: l.free} // the key can be freed
	l.free = i
}

// rewind makes next start at the most recently used record.
func (l *lru) rewind() {
	if l.walking {
		l.unlink(cursor)
	}
	l.link(cursor, anchor)
	l.walking = true
}

// next iterates over the records, from the most to the least recently used one, and returns nil at the
// end. Records that are used during the iteration may be left out.
func (l *lru) next() (keystore.Hash, *record) {
	if !l.walking {
		return keystore.Hash{}, nil
	}
	i := l.slots[cursor].after
	l.unlink(cursor)
	if i == anchor {
		l.walking = false
		return keystore.Hash{}, nil
	}
	l.link(cursor, i)
	return l.slots[i].hash, &l.slots[i].record
}

// link puts slot i into the ring after another.
func (l *lru) link(i, after int32) {
	next := l.slots[after].after
	l.slots[i].before, l.slots[i].after = after, next
	l.slots[next].before = i
	l.slots[after].after = i
}

func (l *lru) unlink(i int32) {
	s := &l.slots[i]
	l.slots[s.before].after, l.slots[s.after].before = s.after, s.before
}
