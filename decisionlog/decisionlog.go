// Package decisionlog writes decisions to a file, one JSON object on each line.
// docs/decision-log.md describes the lines. A decision never waits for the file: lines are buffered
// in memory, and those that do not fit are dropped and counted; a separate line reports them.
package decisionlog

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/DeRuina/timberjack"

	"extauthz/authz"
	"extauthz/check"
)

const (
	// DefaultBuffer is the size of the buffer: about 20,000 lines.
	DefaultBuffer = 8 << 20

	// maxChunk is the size of the largest write. Rotation never happens within a write. It is far
	// below the smallest MaxSize.
	maxChunk = 256 << 10

	flushEvery  = 100 * time.Millisecond // how long a line waits at most for more lines
	flushAt     = 64 << 10               // how many bytes are written without waiting
	retryEvery  = 250 * time.Millisecond // after a write that failed
	closeWithin = 2 * time.Second        // for what is in the buffer
)

// A Config configures a [Log].
type Config struct {
	// Path is the file, which is created if it is missing. Ignored if Writer is non-nil.
	Path string

	// Writer replaces the file, such as by standard output. It is not rotated and not closed.
	Writer io.Writer

	Allowed float64 // the share of the allowed requests that is written, from 0 to 1
	Refused float64 // the share of the others, and of those allowed only by report mode

	MaxSize int // of the file in MiB, from 1, before it is rotated
	Keep    int // rotated files, from 1

	// Refuse makes Record report decisions that were dropped because the buffer was full.
	// Otherwise they are only counted.
	Refuse bool

	Buffer int // in bytes; 0: [DefaultBuffer]

	// OnError, if non-nil, is called after a write or a rotation that failed, from one goroutine.
	OnError func(error)
}

// A Log is a decision log. It is safe for concurrent use.
type Log struct {
	cfg              Config
	allowed, refused sampler
	to               io.Writer
	file             *timberjack.Logger // nil if there is no file
	buffer           int

	buffered, written, dropped, errors atomic.Uint64

	wake   chan struct{} // holds a value if there is something to do
	hurry  chan struct{} // holds a value if it cannot wait
	done   chan struct{}
	rotate atomic.Bool

	mu      sync.Mutex
	pending []byte // whole lines
	lost    uint64 // decisions dropped since the last line of pending; they have no line yet
	since   time.Time
	closed  bool
}

// Open returns a Log that writes to cfg.Path or cfg.Writer. Close it at the end.
func Open(cfg Config) (*Log, error) {
	l := &Log{
		cfg: cfg, allowed: newSampler(cfg.Allowed), refused: newSampler(cfg.Refused), to: cfg.Writer, buffer: cfg.Buffer,
		wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if l.buffer <= 0 {
		l.buffer = DefaultBuffer
	}
	if l.to == nil {
		if err := l.openFile(); err != nil {
			return nil, fmt.Errorf("decision_log: %w", err)
		}
	}
	go l.run()
	return l, nil
}

// openFile opens the file at once, for an early error. The library that rotates files would open it
// only for the first line, and would rename a device.
func (l *Log) openFile() error {
	info, err := os.Stat(l.cfg.Path)
	device := err == nil && info.Mode()&os.ModeCharDevice != 0
	if err == nil && !device && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is neither a file nor a device: name a file", l.cfg.Path)
	}
	f, err := os.OpenFile(l.cfg.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, fileMode)
	if err != nil {
		return err
	}
	if device {
		l.to = f // until the process ends
		return nil
	}
	if err := f.Close(); err != nil {
		return err
	}
	l.file = &timberjack.Logger{
		Filename: l.cfg.Path, MaxSize: max(l.cfg.MaxSize, 1), MaxBackups: max(l.cfg.Keep, 1), FileMode: fileMode,
		BackupTimeFormat: "2006-01-02T15-04-05.000000", // MaxBackups counts different times
	}
	l.to = l.file
	return nil
}

// fileMode is the file's mode. Addresses are personal data.
const fileMode = 0o640

// Record writes the decision if its sample is wanted. trace is the id of the trace that the decision
// belongs to, and from who chose it, other than the caller; both may be "". It keeps nothing of o, and waits
// for no write. It returns false if the decision was dropped because the buffer was full and Config.Refuse is set.
func (l *Log) Record(o *check.Observation, trace, from string) bool {
	if trace == "" {
		trace, from = callersTrace(o)
	}
	s := &l.refused
	if o.Decision.Code == authz.Valid && !o.Decision.WouldRefuse {
		s = &l.allowed
	}
	if !s.takes(trace, o.RequestID) {
		return true
	}
	now := time.Now()
	kept := l.keep(now, func(b []byte) []byte { return appendDecision(b, o, now, trace, from, s.text) })
	return kept || !l.cfg.Refuse
}

// keep appends a line to the buffer, and reports whether there was room. It formats the line in
// place, without a copy or an allocation.
func (l *Log) keep(now time.Time, line func([]byte) []byte) bool {
	l.mu.Lock()
	before := len(l.pending)
	if l.closed || !l.add(line) {
		if l.lost == 0 {
			l.since = now
		}
		l.lost++
		l.mu.Unlock()
		l.dropped.Add(1)
		return false
	}
	l.buffered.Add(1)
	after := len(l.pending)
	l.mu.Unlock()
	switch {
	case before == 0:
		notify(l.wake)
	case before < flushAt && after >= flushAt:
		notify(l.hurry)
	}
	return true
}

// add appends a line to the buffer if there is room; l.mu is held.
func (l *Log) add(line func([]byte) []byte) bool {
	l.grow()
	before := len(l.pending)
	l.pending = line(l.pending)
	if len(l.pending) > l.buffer {
		l.pending = l.pending[:before]
		return false
	}
	if l.lost > 0 { // report them first
		l.pending = l.pending[:before]
		l.reportLost()
		l.pending = line(l.pending)
	}
	return true
}

// grow makes room for a line, in two steps at most: each copy of a large buffer delays every
// decision in the meantime. l.mu is held.
func (l *Log) grow() {
	if cap(l.pending)-len(l.pending) >= lineRoom {
		return
	}
	size := l.buffer + lineRoom
	if len(l.pending) < keptBuffer/2 {
		size = min(size, keptBuffer)
	}
	if size > cap(l.pending) {
		l.pending = append(make([]byte, 0, size), l.pending...)
	}
}

// reportLost appends a line about dropped decisions, if there are any, to the buffer; l.mu is held.
func (l *Log) reportLost() {
	if l.lost > 0 {
		l.pending = appendDropped(l.pending, l.lost, l.since, time.Now())
		l.lost = 0
	}
}

// Rotate starts a new file in the background.
func (l *Log) Rotate() {
	if l.file != nil {
		l.rotate.Store(true)
		notify(l.wake)
		notify(l.hurry)
	}
}

// Close writes the buffer, for at most two seconds. It returns how many decisions of the buffer were
// not written.
func (l *Log) Close() (lost uint64) {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	notify(l.wake)
	notify(l.hurry)
	select {
	case <-l.done:
	case <-time.After(closeWithin):
	}
	return l.buffered.Load() - l.written.Load()
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Stats are counters since the log was opened, and a gauge.
type Stats struct {
	Written uint64 // decisions
	Dropped uint64 // decisions that did not fit into the buffer
	Errors  uint64 // writes and rotations that failed
	Pending int    // bytes in the buffer
}

// Stats returns the current values.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	pending := len(l.pending)
	l.mu.Unlock()
	return Stats{Written: l.written.Load(), Dropped: l.dropped.Load(), Errors: l.errors.Load(), Pending: pending}
}
