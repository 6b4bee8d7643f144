package server

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxPendingLog = 1 << 20         // bytes that wait to be written
	flushTimeout  = 2 * time.Second // how long Close waits for them
)

// A LogWriter writes lines in the background, so that logging never blocks and never fails. Lines that
// cannot be written, or do not fit into its buffer while the reader of the log hangs, are dropped and
// counted. It is safe for concurrent use.
type LogWriter struct {
	to      io.Writer
	dropped atomic.Uint64
	wake    chan struct{} // holds a value if there is work
	done    chan struct{}

	mu      sync.Mutex
	pending []byte // complete lines
	closed  bool
}

// NewLogWriter returns a LogWriter that writes to w. Close it at the end.
func NewLogWriter(w io.Writer) *LogWriter {
	l := &LogWriter{to: w, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go l.run()
	return l
}

// Write queues one or more complete lines. It never fails and never blocks.
func (l *LogWriter) Write(lines []byte) (int, error) {
	l.mu.Lock()
	if l.closed || len(l.pending)+len(lines) > maxPendingLog {
		l.drop(lines)
	} else {
		l.pending = append(l.pending, lines...)
	}
	l.mu.Unlock()
	l.notify()
	return len(lines), nil
}

// Dropped returns how many lines could not be written so far.
func (l *LogWriter) Dropped() uint64 { return l.dropped.Load() }

// Close waits until all lines are written, for at most flushTimeout: the reader of the log may hang.
func (l *LogWriter) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.notify()
	select {
	case <-l.done:
	case <-time.After(flushTimeout):
	}
}

func (l *LogWriter) notify() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *LogWriter) drop(lines []byte) {
	l.dropped.Add(uint64(bytes.Count(lines, []byte{'\n'}))) //nolint:gosec // not negative
}

// run writes what is pending, in batches, until l is closed.
func (l *LogWriter) run() {
	defer close(l.done)
	var batch []byte
	cut := false // the last write ended within a line
	for range l.wake {
		l.mu.Lock()
		batch, l.pending = l.pending, batch[:0]
		closed := l.closed
		l.mu.Unlock()
		if len(batch) > 0 {
			cut = l.write(batch, cut)
		}
		if closed {
			return
		}
	}
}

// write writes a batch of lines, and reports whether it ended within a line. cut reports the same for the
// batch before.
func (l *LogWriter) write(batch []byte, cut bool) bool {
	if cut {
		_, _ = l.to.Write([]byte{'\n'}) // if it fails, so does what follows
	}
	n, err := l.to.Write(batch)
	if err == nil {
		return false
	}
	l.drop(batch[n:])
	return n > 0 && batch[n-1] != '\n'
}
