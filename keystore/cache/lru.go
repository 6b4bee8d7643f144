package cache

import "extauthz/keystore"

// An lru is the records of the hashes that were used last, up to a number of them. It is one array
// and a map without pointers, which the garbage collector scans in a fraction of the time that a
// list of as many elements takes: with 100,000 records that is a good part of what a check costs.
type lru struct {
	size  int
	slots []slot                  // a ring from the anchor: after it comes the one used last
	at    map[keystore.Hash]int32 // where in slots
	free  int32                   // the first of the slots without a record, which are linked by after; 0: none

	walking bool // the cursor is in the ring
}

// Two slots hold no record.
const (
	anchor int32 = iota
	cursor       // what next returns is after it
)

// A slot holds the record of one hash, between that used just after it and just before it.
type slot struct {
	record        record
	hash          keystore.Hash
	before, after int32
}

func newLRU(size int) *lru {
	return &lru{size: size, slots: make([]slot, 2), at: make(map[keystore.Hash]int32)}
}

func (l *lru) len() int { return len(l.at) }

// get returns the record of a hash, which is thereby used, or nil. The pointer is valid until the
// next call of add.
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

// peek is get for a record that is not thereby used.
func (l *lru) peek(h keystore.Hash) *record {
	if i, ok := l.at[h]; ok {
		return &l.slots[i].record
	}
	return nil
}

// add sets the record of a hash. A new one counts as used; if there are too many then, the one
// that was not used for the longest time goes.
func (l *lru) add(h keystore.Hash, r record) {
	if old := l.peek(h); old != nil {
		*old = r
		return
	}
	if len(l.at) >= l.size {
		oldest := l.slots[anchor].before
		if oldest == cursor {
			oldest = l.slots[cursor].before
		}
		l.remove(l.slots[oldest].hash)
	}
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

// rewind lets next begin with the record used last.
func (l *lru) rewind() {
	if l.walking {
		l.unlink(cursor)
	}
	l.link(cursor, anchor)
	l.walking = true
}

// next returns the records from the one used last when rewind was called to the one used first,
// then nil. Those that are used in the meantime may be left out.
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
