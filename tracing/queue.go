package tracing

import (
	"context"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	queueSize   = 4096 // the maximum number of spans in the queue
	batchSize   = 512
	batchWithin = time.Second     // how long a span waits at most for those after it
	closeWithin = 2 * time.Second // for what is in the queue
)

// A queue is a [sdktrace.SpanProcessor] that exports spans in the background. A span that finds the
// queue full is dropped: nothing waits for the collector.
type queue struct {
	exporter sdktrace.SpanExporter
	onError  func(error) // may be nil
	spans    chan sdktrace.ReadOnlySpan
	closing  chan struct{}
	done     chan struct{}
	closed   atomic.Bool

	exported, dropped, failures atomic.Uint64
}

// Stats are counters since the Tracer was opened.
type Stats struct {
	Exported uint64 // spans that the collector accepted
	Dropped  uint64 // spans that were lost: the queue was full, or the collector did not accept them
	Failures uint64 // exports that failed
}

func newQueue(exporter sdktrace.SpanExporter, onError func(error)) *queue {
	q := &queue{
		exporter: exporter, onError: onError,
		spans: make(chan sdktrace.ReadOnlySpan, queueSize), closing: make(chan struct{}), done: make(chan struct{}),
	}
	go q.run()
	return q
}

// OnStart implements [sdktrace.SpanProcessor].
func (q *queue) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements [sdktrace.SpanProcessor]. It never waits.
func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	if q.closed.Load() {
		q.dropped.Add(1)
		return
	}
	select {
	case q.spans <- s:
	default:
		q.dropped.Add(1)
	}
}

// ForceFlush implements [sdktrace.SpanProcessor]. It does nothing.
func (q *queue) ForceFlush(context.Context) error { return nil }

// Shutdown implements [sdktrace.SpanProcessor]. Close does it.
func (q *queue) Shutdown(context.Context) error { return nil }

func (q *queue) stats() Stats {
	return Stats{Exported: q.exported.Load(), Dropped: q.dropped.Load(), Failures: q.failures.Load()}
}

// close exports the spans in the queue, for at most closeWithin. It is called once.
func (q *queue) close() {
	q.closed.Store(true)
	close(q.closing)
	<-q.done
}

// run exports batches until the queue is closed, and then the remaining spans.
func (q *queue) run() {
	defer close(q.done)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-q.closing
		time.AfterFunc(closeWithin, cancel)
	}()
	for {
		batch, last := q.batch()
		if len(batch) > 0 {
			q.export(ctx, batch)
		}
		if last && (len(q.spans) == 0 || ctx.Err() != nil) {
			q.dropped.Add(uint64(len(q.spans)))
			_ = q.exporter.Shutdown(ctx) // nothing is left to export
			return
		}
	}
}

// batch returns the next spans, and whether the queue is closed.
func (q *queue) batch() (batch []sdktrace.ReadOnlySpan, last bool) {
	var timeout <-chan time.Time
	closing := q.closing
	for len(batch) < batchSize {
		if last && len(q.spans) == 0 {
			return batch, true
		}
		select {
		case s := <-q.spans:
			if batch = append(batch, s); timeout == nil {
				timeout = time.After(batchWithin)
			}
		case <-timeout:
			return batch, last
		case <-closing:
			last, closing = true, nil
		}
	}
	return batch, last
}

func (q *queue) export(ctx context.Context, batch []sdktrace.ReadOnlySpan) {
	ctx, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	err := q.exporter.ExportSpans(ctx, batch)
	if err == nil {
		q.exported.Add(uint64(len(batch)))
		return
	}
	q.failures.Add(1)
	q.dropped.Add(uint64(len(batch)))
	if q.onError != nil {
		q.onError(err)
	}
}
