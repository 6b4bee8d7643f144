package usage

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"extauthz/authz"
)

const (
	// shards is the number of parts of the buffer, so that few requests wait for each other. It is
	// a power of two.
	shards = 64

	// maxBuffered is the default for how many rows a [Recorder] holds at most: those between two
	// flushes, and as many again while the store is unreachable.
	maxBuffered = 1 << 19
)

// An Event is one decision on a known key.
type Event struct {
	KeyID       string     // must stay valid after the call
	Addr        netip.Addr // the trusted client address; the zero Addr if there is none
	Code        authz.Code
	WouldRefuse bool // allowed, but an enforced whitelist would have refused it
	Previous    bool // the secret was the one before the key's rotation
	Time        time.Time
}

// Defaults of a [RecorderConfig] and of the configuration file.
const (
	DefaultFlush           = 10 * time.Second
	DefaultAddressesPerKey = 256
)

// RecorderConfig configures a [Recorder]. Zero fields have the given defaults.
type RecorderConfig struct {
	Store           Store
	Flush           time.Duration // how often the buffer is written to the store; [DefaultFlush]
	AddressesPerKey int           // of one key between two flushes; [DefaultAddressesPerKey]
	MaxBuffered     int           // rows in memory; 524,288

	// OnFlush, if non-nil, is called after each attempt to write, with how many rows were
	// written and the error.
	OnFlush func(rows int, err error)
}

// A Recorder counts decisions in memory and writes them to a store regularly, so that decisions do
// not wait for the store. It is safe for concurrent use.
type Recorder struct {
	cfg     RecorderConfig
	seed    maphash.Seed
	shards  [shards]shard
	dropped atomic.Uint64

	flushing sync.Mutex // guards what follows
	waiting  *table     // not written to the store yet
}

// RecorderStats are counters of a [Recorder] since it was created.
type RecorderStats struct {
	Dropped uint64 // events whose address was dropped, because the buffer or the key's share of it was full
}

// NewRecorder returns a Recorder. Nothing is written until [Recorder.Run] runs.
func NewRecorder(cfg RecorderConfig) *Recorder {
	if cfg.Flush <= 0 {
		cfg.Flush = DefaultFlush
	}
	if cfg.AddressesPerKey <= 0 {
		cfg.AddressesPerKey = DefaultAddressesPerKey
	}
	if cfg.MaxBuffered <= 0 {
		cfg.MaxBuffered = maxBuffered
	}
	r := &Recorder{cfg: cfg, seed: maphash.MakeSeed(), waiting: newTable()}
	for i := range r.shards {
		r.shards[i].active, r.shards[i].spare = &buffer{}, &buffer{}
	}
	return r
}

// Stats returns the current values.
func (r *Recorder) Stats() RecorderStats {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		r.count(s)
		s.mu.Unlock()
	}
	return RecorderStats{Dropped: r.dropped.Load()}
}

// Record counts one decision. It allocates nothing once the buffer has grown, and never waits
// for the store.
func (r *Recorder) Record(e *Event) {
	if e.KeyID == "" {
		return
	}
	hash := maphash.String(r.seed, e.KeyID)
	s := &r.shards[hash%shards]
	s.mu.Lock()
	s.pending[s.n] = pendingEvent{*e, uint32(hash >> 32)}
	if s.n++; s.n == len(s.pending) {
		r.count(s)
	}
	s.mu.Unlock()
}

// count moves the pending events of a shard to its buffer; s.mu is held.
func (r *Recorder) count(s *shard) {
	for i := range s.pending[:s.n] {
		e := &s.pending[i]
		if !s.active.record(&e.Event, e.hash, r.cfg.AddressesPerKey, r.cfg.MaxBuffered/shards) {
			r.dropped.Add(1)
		}
	}
	s.n = 0
}

// Run writes the buffer to the store every [RecorderConfig.Flush] until ctx ends, and then once
// more, for which it takes at most 5 s.
func (r *Recorder) Run(ctx context.Context) {
	tick := time.NewTicker(r.cfg.Flush)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.flushWithin(ctx, max(r.cfg.Flush, 5*time.Second))
		case <-ctx.Done():
			r.flushWithin(context.WithoutCancel(ctx), 5*time.Second)
			return
		}
	}
}

func (r *Recorder) flushWithin(ctx context.Context, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_ = r.Flush(ctx) // reported by OnFlush
}

// Flush writes the buffer to the store now. What cannot be written stays in the buffer.
func (r *Recorder) Flush(ctx context.Context) error {
	r.flushing.Lock()
	defer r.flushing.Unlock()
	for i := range r.shards {
		r.drain(&r.shards[i])
	}
	if len(r.waiting.summaries) == 0 {
		return nil
	}
	batch := &Batch{Rows: r.waiting.rows, Summaries: r.waiting.summaries}
	rows := len(batch.Rows)
	err := r.cfg.Store.Add(ctx, batch)
	if err == nil {
		r.waiting.reset()
	} else {
		r.waiting = tableOf(batch)
	}
	if r.cfg.OnFlush != nil {
		r.cfg.OnFlush(rows-len(r.waiting.rows), err)
	}
	return err
}

// drain moves the counts of the shard to r.waiting.
func (r *Recorder) drain(s *shard) {
	s.mu.Lock()
	r.count(s)
	counted := s.active
	s.active, s.spare = s.spare, nil
	s.mu.Unlock()
	for i := range counted.keys {
		summary := counted.keys[i].summary()
		r.waiting.mergeSummary(&summary)
	}
	for i := range counted.rows {
		row := counted.export(&counted.rows[i])
		if !r.waiting.mergeRow(&row, r.cfg.MaxBuffered) {
			r.dropped.Add(row.total())
		}
	}
	counted.reset()
	s.spare = counted // r.flushing is held, so there is no concurrent swap
}

// total returns how many requests the row counts.
func (c *Counts) total() uint64 { return c.Allowed + c.RefusedTotal() }

// A shard is the part of the buffer for some of the keys.
//
// Events are counted many at a time: between two checks other work evicts the buffer from the CPU's caches,
// so that counting each event separately would wait for memory each time.
type shard struct {
	mu      sync.Mutex
	n       int              // of pending; guarded by mu
	active  *buffer          // guarded by mu
	spare   *buffer          // empty; takes the place of active while that is drained
	pending [64]pendingEvent // guarded by mu
}

// A pendingEvent is not in a buffer yet.
type pendingEvent struct {
	Event
	hash uint32 // of the key
}

// A table is a batch with its indices. Its memory is used again after reset.
type table struct {
	rows      []Row
	summaries []Summary
	rowOf     map[rowKey]int
	summaryOf map[string]int
}

type rowKey struct {
	keyID   string
	network netip.Prefix
	day     Day
}

func newTable() *table {
	return &table{rowOf: make(map[rowKey]int), summaryOf: make(map[string]int)}
}

func tableOf(b *Batch) *table {
	t := newTable()
	for i := range b.Summaries {
		t.mergeSummary(&b.Summaries[i])
	}
	for i := range b.Rows {
		t.mergeRow(&b.Rows[i], len(b.Rows))
	}
	return t
}

// keptRows is the largest size at which an empty table keeps its memory: a burst must not hold
// memory forever.
const keptRows = 1 << 10

func (t *table) reset() {
	if cap(t.rows) > keptRows {
		*t = *newTable()
		return
	}
	clear(t.rows)
	clear(t.summaries)
	t.rows, t.summaries = t.rows[:0], t.summaries[:0]
	clear(t.rowOf)
	clear(t.summaryOf)
}

func (t *table) mergeSummary(s *Summary) { t.summary(s.KeyID).Merge(s) }

// summary returns the key's summary, which it makes if there is none.
func (t *table) summary(id string) *Summary {
	i, ok := t.summaryOf[id]
	if !ok {
		i = len(t.summaries)
		t.summaries = append(t.summaries, Summary{KeyID: id})
		t.summaryOf[id] = i
	}
	return &t.summaries[i]
}

// mergeRow adds row to the table and reports whether there was room for it.
func (t *table) mergeRow(row *Row, maxRows int) bool {
	k := rowKey{row.KeyID, row.Network, row.Day}
	if i, ok := t.rowOf[k]; ok {
		t.rows[i].Merge(row)
		return true
	}
	if len(t.rows) >= maxRows {
		s := t.summary(row.KeyID)
		s.Dropped = later(s.Dropped, row.Last)
		return false
	}
	t.rowOf[k] = len(t.rows)
	t.rows = append(t.rows, *row)
	return true
}

// Merge adds o to r, which is about the same key, network and day: it adds the counts, and keeps the
// earliest First and the latest Last.
func (r *Row) Merge(o *Row) {
	r.Add(&o.Counts)
	if o.First.Before(r.First) {
		r.First = o.First
	}
	r.Last = later(r.Last, o.Last)
}
