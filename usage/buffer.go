package usage

import (
	"encoding/binary"
	"net/netip"
	"time"

	"extauthz/authz"
)

// A buffer counts decisions between two flushes. Its records are small, and found by one hash of the
// key's id, because each decision reads some of them from memory that no cache of the CPU holds.
type buffer struct {
	keys  []keyUse
	rows  []rowUse
	keyAt index // of keys
	rowAt index // of rows
}

// A keyUse is a [Summary] with the row that was counted last. What most decisions read comes first.
type keyUse struct {
	id                    string
	lastUsed, lastCurrent int64 // nanoseconds since 1970; 0: never
	lastNetwork           network
	lastRow               int32 // of lastNetwork on lastDay; -1: none
	lastDay               Day
	count                 int32 // of rows
	hash                  uint32

	lastPrevious, dropped int64
}

// A rowUse is a [Row].
type rowUse struct {
	network              network
	key                  int32
	day                  Day
	first, last          int64
	allowed, wouldRefuse uint64
	refused              [authz.Valid]uint64
}

// A network is what [Network] returns, in 16 bytes: an IPv4 address is mapped into IPv6.
type network struct{ hi, lo uint64 }

// noNetwork is that of an address that is not valid. No /64 has it.
var noNetwork = network{0, 1}

func networkOf(addr netip.Addr) network {
	switch {
	case addr.Is4():
		b := addr.As4()
		return network{0, 0xffff<<32 | uint64(binary.BigEndian.Uint32(b[:]))}
	case !addr.IsValid():
		return noNetwork
	}
	b := addr.As16()
	n := network{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
	if n.hi != 0 || n.lo>>32 != 0xffff { // not IPv4-mapped
		n.lo = 0
	}
	return n
}

func (n network) prefix() netip.Prefix {
	switch {
	case n == noNetwork:
		return netip.Prefix{}
	case n.lo != 0:
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(n.lo)) //nolint:gosec // the lower half
		return netip.PrefixFrom(netip.AddrFrom4(b), 32)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], n.hi)
	return netip.PrefixFrom(netip.AddrFrom16(b), IPv6Bits)
}

// hashRow mixes the hash of a key with a network and a day.
func hashRow(key uint32, n network, day Day) uint32 {
	const golden = 0x9e3779b97f4a7c15
	h := (uint64(key) ^ n.hi) * golden
	h = (h ^ h>>29 ^ n.lo) * golden
	h = (h ^ h>>32 ^ uint64(uint32(day))) * golden //nolint:gosec // any bits do
	return uint32(h >> 32)
}

// record counts e, whose key has this hash, and reports whether its address was kept.
func (b *buffer) record(e *Event, hash uint32, perKey, maxRows int) bool {
	now, n := e.Time.UnixNano(), networkOf(e.Addr)
	k := &b.keys[b.key(e.KeyID, hash)]
	if e.Previous {
		k.lastPrevious = max(k.lastPrevious, now)
	} else {
		k.lastCurrent = max(k.lastCurrent, now)
	}
	if n == noNetwork {
		k.used(now, n, -1, 0)
		return true // there is no address to keep
	}
	day := dayOfNanos(now)
	i := k.lastRow
	if i < 0 || k.lastNetwork != n || k.lastDay != day {
		i = b.row(k, rowUse{network: n, key: b.keyAt.found, day: day, first: now}, perKey, maxRows)
	}
	k.used(now, n, i, day)
	if i < 0 {
		k.dropped = max(k.dropped, now)
		return false
	}
	row := &b.rows[i]
	row.first, row.last = min(row.first, now), max(row.last, now)
	switch {
	case !e.Code.Allowed():
		row.refused[e.Code%authz.Valid]++
	case e.WouldRefuse:
		row.wouldRefuse++
		fallthrough
	default:
		row.allowed++
	}
	return true
}

// used sets when and where the key was last used.
func (k *keyUse) used(now int64, n network, row int32, day Day) {
	if now > k.lastUsed {
		k.lastUsed, k.lastNetwork, k.lastRow, k.lastDay = now, n, row, day
	}
}

// dayOfNanos is [DayOf] for nanoseconds since 1970.
func dayOfNanos(nanos int64) Day {
	const perDay = 24 * int64(time.Hour)
	d := nanos / perDay
	if nanos%perDay < 0 {
		d--
	}
	return Day(d) //nolint:gosec // of 2^63 nanoseconds, under 2^18 days
}

// key returns the position of the key, which it adds if it is new.
func (b *buffer) key(id string, hash uint32) int32 {
	for b.keyAt.begin(hash); b.keyAt.next(); {
		if b.keys[b.keyAt.found].id == id {
			return b.keyAt.found
		}
	}
	b.keys = append(b.keys, keyUse{id: id, hash: hash, lastNetwork: noNetwork, lastRow: -1})
	return b.keyAt.add(hash, len(b.keys))
}

// row returns the position of the row of the key k with the network and day of r, which it adds if it is
// new; -1 if there is no room for it.
func (b *buffer) row(k *keyUse, r rowUse, perKey, maxRows int) int32 {
	hash := hashRow(k.hash, r.network, r.day)
	for b.rowAt.begin(hash); b.rowAt.next(); {
		if o := &b.rows[b.rowAt.found]; o.network == r.network && o.key == r.key && o.day == r.day {
			return b.rowAt.found
		}
	}
	if int(k.count) >= perKey || len(b.rows) >= maxRows {
		return -1
	}
	k.count++
	b.rows = append(b.rows, r)
	return b.rowAt.add(hash, len(b.rows))
}

// reset empties the buffer. It keeps its memory unless that is much: a burst must not hold it forever.
func (b *buffer) reset() {
	if cap(b.rows) > keptRows || cap(b.keys) > keptRows {
		*b = buffer{}
		return
	}
	clear(b.keys) // for the sake of the ids
	b.keys, b.rows = b.keys[:0], b.rows[:0]
	b.keyAt.reset()
	b.rowAt.reset()
}

// summary returns what the buffer has of a key as a whole.
func (k *keyUse) summary() Summary {
	return Summary{
		KeyID: k.id, LastUsed: timeOf(k.lastUsed), LastNetwork: k.lastNetwork.prefix(),
		LastCurrent: timeOf(k.lastCurrent), LastPrevious: timeOf(k.lastPrevious), Dropped: timeOf(k.dropped),
	}
}

// export returns a row for the store.
func (b *buffer) export(r *rowUse) Row {
	return Row{
		KeyID: b.keys[r.key].id, Network: r.network.prefix(), Day: r.day, First: timeOf(r.first), Last: timeOf(r.last),
		Counts: Counts{Allowed: r.allowed, WouldRefuse: r.wouldRefuse, Refused: r.refused},
	}
}

// timeOf returns the zero Time for 0.
func timeOf(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}

// An index finds positions by hashes, with open addressing. The zero value is empty.
type index struct {
	slots []slot // a power of two; at least half are empty
	at    uint32 // of the search in progress
	hash  uint32
	found int32
}

// A slot has a position, counted from 1; 0: it is empty.
type slot struct {
	hash     uint32
	position int32
}

// begin begins a search.
func (x *index) begin(hash uint32) { x.at, x.hash = hash-1, hash }

// next finds the next position with the hash, in found.
func (x *index) next() bool {
	if len(x.slots) == 0 {
		return false
	}
	mask := uint32(len(x.slots) - 1) //nolint:gosec // far fewer
	for {
		x.at++
		s := x.slots[x.at&mask]
		if s.position == 0 {
			return false
		}
		if s.hash == x.hash {
			x.found = s.position - 1
			return true
		}
	}
}

// add adds the last of n positions, and returns it.
func (x *index) add(hash uint32, n int) int32 {
	if 2*n > len(x.slots) {
		old := x.slots
		x.slots = make([]slot, max(8, 2*len(old)))
		for _, s := range old {
			if s.position != 0 {
				x.put(s)
			}
		}
	}
	x.put(slot{hash, int32(n)}) //nolint:gosec // far fewer
	x.found = int32(n) - 1      //nolint:gosec // the same
	return x.found
}

func (x *index) put(s slot) {
	mask := uint32(len(x.slots) - 1) //nolint:gosec // far fewer
	at := s.hash & mask
	for x.slots[at].position != 0 {
		at = (at + 1) & mask
	}
	x.slots[at] = s
}

func (x *index) reset() { clear(x.slots) }
