package decisionlog

import (
	"bytes"
	"time"
)

const (
	keptBuffer = 1 << 20 // of memory that is kept for the next lines
	lineRoom   = 4 << 10 // for almost every line

	// burstOver is how many small batches in a row, of 0.1 s each, end a burst. More memory
	// is kept until then.
	burstOver = 300
)

// run writes the buffer until l is closed, and then once more.
func (l *Log) run() {
	defer close(l.done)
	var batch []byte
	small := 0
	for range l.wake {
		select { // more lines may follow
		case <-l.hurry:
		case <-time.After(flushEvery):
		}
		l.mu.Lock()
		l.reportLost()
		batch, l.pending = l.pending, batch[:0]
		closed := l.closed
		l.mu.Unlock()
		l.write(batch)
		if small++; len(batch) > keptBuffer/2 {
			small = 0
		}
		if small > burstOver && cap(batch) > keptBuffer {
			batch = nil
		}
		if l.rotate.Swap(false) {
			l.failed(l.file.Rotate())
		}
		if closed {
			if l.file != nil {
				l.failed(l.file.Close())
			}
			return
		}
	}
}

// write writes a batch of lines in chunks. It retries a chunk until it succeeds, or the log is
// closed. A line that was truncated is written again completely.
func (l *Log) write(batch []byte) {
	cut := false
	for len(batch) > 0 {
		chunk := firstLines(batch)
		n, err := l.writeChunk(chunk, cut)
		whole := chunk[:bytes.LastIndexByte(chunk[:n], '\n')+1]
		if err == nil {
			whole = chunk
		}
		l.written.Add(decisions(whole))
		batch = batch[len(whole):]
		if err == nil {
			cut = false
			continue
		}
		cut = n > len(whole) || cut && n == 0
		l.failed(err)
		if l.isClosed() {
			return
		}
		if l.rotate.Swap(false) {
			l.failed(l.file.Rotate())
		}
		time.Sleep(retryEvery)
	}
}

// writeChunk writes lines, after a line break if the last write was incomplete. It returns how many
// bytes of the lines were written.
func (l *Log) writeChunk(chunk []byte, cut bool) (int, error) {
	if cut {
		if n, err := l.to.Write([]byte{'\n'}); n < 1 {
			return 0, err
		}
	}
	return l.to.Write(chunk)
}

// firstLines returns the first lines of the batch, of at most maxChunk bytes unless there is only
// one.
func firstLines(batch []byte) []byte {
	if len(batch) <= maxChunk {
		return batch
	}
	if end := bytes.LastIndexByte(batch[:maxChunk], '\n'); end >= 0 {
		return batch[:end+1]
	}
	return batch[:bytes.IndexByte(batch, '\n')+1]
}

// decisions returns how many lines are decisions.
func decisions(lines []byte) uint64 {
	return uint64(bytes.Count(lines, []byte{'\n'}) - bytes.Count(lines, []byte(droppedStart))) //nolint:gosec // not negative
}

func (l *Log) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

func (l *Log) failed(err error) {
	if err == nil {
		return
	}
	l.errors.Add(1)
	if l.cfg.OnError != nil {
		l.cfg.OnError(err)
	}
}
