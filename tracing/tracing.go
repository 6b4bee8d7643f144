// Package tracing exports spans of checks to an OpenTelemetry collector. A check has a span if the
// proxy records the trace that it belongs to; all others cost nothing. A check never waits for the
// collector: spans are queued, and dropped and counted if the queue is full.
package tracing

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/url"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"extauthz/traceparent"
)

// A Config configures a [Tracer].
type Config struct {
	// Endpoint is the collector: http or https, a host and a port. HTTP also has a path.
	Endpoint *url.URL

	HTTP bool // OTLP over HTTP; otherwise over gRPC

	// Ratio is the share of the checks without a trace for which one is begun, from 0 to 1.
	Ratio float64

	Addresses bool // spans have client addresses, and error messages, which may contain some

	Version string // of the program

	// OnError, if non-nil, is called with errors of the export, from one goroutine.
	OnError func(error)
}

// A Tracer makes the spans of checks. It is safe for concurrent use.
type Tracer struct {
	addresses bool
	ratio     float64
	threshold uint64 // of 56 random bits, for ratio
	tracer    trace.Tracer
	queue     *queue
}

const (
	scope         = "extauthz"
	exportTimeout = 5 * time.Second // with all attempts
	randomBits    = 56
)

// Open returns a Tracer. The collector need not be reachable yet. Close it at the end.
func Open(ctx context.Context, cfg Config) (*Tracer, error) {
	exporter, err := otlptrace.New(ctx, client(cfg))
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	if cfg.OnError != nil {
		otel.SetErrorHandler(otel.ErrorHandlerFunc(cfg.OnError)) // otherwise the library writes to standard error
	}
	is, err := resource.Merge(
		resource.NewSchemaless(attribute.String("service.name", "extauthz"), attribute.String("service.version", cfg.Version)),
		resource.Environment()) // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	t := &Tracer{
		addresses: cfg.Addresses, ratio: cfg.Ratio,
		threshold: uint64((1 - cfg.Ratio) * (1 << randomBits)),
		queue:     newQueue(exporter, cfg.OnError), //nolint:contextcheck // it goes on until Close
	}
	t.tracer = sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // Begin has decided
		sdktrace.WithIDGenerator(ids{}),
		sdktrace.WithResource(is),
		sdktrace.WithSpanProcessor(t.queue),
	).Tracer(scope)
	return t, nil
}

// client returns a client that sends spans. Certificates and headers come from the standard
// OTEL_EXPORTER_OTLP_ variables, but the endpoint, and whether it uses TLS, never do.
func client(cfg Config) otlptrace.Client {
	endpoint := cfg.Endpoint.String()
	const first, most = time.Second, 2 * time.Second // between two attempts
	if cfg.HTTP {
		return otlptracehttp.NewClient(
			otlptracehttp.WithEndpointURL(endpoint), otlptracehttp.WithTimeout(exportTimeout),
			otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: first, MaxInterval: most, MaxElapsedTime: exportTimeout}),
		)
	}
	return otlptracegrpc.NewClient(
		otlptracegrpc.WithEndpointURL(endpoint), otlptracegrpc.WithTimeout(exportTimeout),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: true, InitialInterval: first, MaxInterval: most, MaxElapsedTime: exportTimeout}),
	)
}

// Close exports the queued spans, but waits only for a short time.
func (t *Tracer) Close() { t.queue.close() }

// Stats returns the current values.
func (t *Tracer) Stats() Stats { return t.queue.stats() }

// Begin begins the span of a check, if the trace of parent is recorded, or, without a parent, if the
// check is in the sample of Config.Ratio. It returns a context with the span, or else ctx itself.
// state is the tracestate that came with parent.
func (t *Tracer) Begin(ctx context.Context, parent traceparent.Parent, state string) context.Context {
	switch {
	case parent.Sampled:
		ctx = trace.ContextWithRemoteSpanContext(ctx, spanContext(parent, state))
	case parent.TraceID != "" || t.ratio == 0:
		return ctx
	default:
		id, ok := t.sample()
		if !ok {
			return ctx
		}
		ctx = context.WithValue(ctx, rootID{}, id)
	}
	ctx, _ = t.tracer.Start(ctx, "check", trace.WithSpanKind(trace.SpanKindServer))
	return ctx
}

// Root returns the id of the trace that began with the check of ctx; "" if none did.
func Root(ctx context.Context) string {
	if id, ok := ctx.Value(rootID{}).(trace.TraceID); ok {
		return id.String()
	}
	return ""
}

// sample returns a trace id, and whether it is in the sample. The id alone decides, as in the decision
// log: the highest values of its last 56 bits are in the sample.
func (t *Tracer) sample() (id trace.TraceID, ok bool) {
	low := rand.Uint64() //nolint:gosec // a sample, no secret
	if low&(1<<randomBits-1) < t.threshold || low == 0 {
		return id, false
	}
	binary.BigEndian.PutUint64(id[:8], rand.Uint64()) //nolint:gosec // the same
	binary.BigEndian.PutUint64(id[8:], low)
	return id, true
}

// spanContext converts a valid parent to OpenTelemetry's type.
func spanContext(parent traceparent.Parent, state string) trace.SpanContext {
	id, _ := trace.TraceIDFromHex(parent.TraceID)
	span, _ := trace.SpanIDFromHex(parent.SpanID)
	is := trace.SpanContextConfig{TraceID: id, SpanID: span, Remote: true}
	if parent.Sampled {
		is.TraceFlags = trace.FlagsSampled
	}
	is.TraceState, _ = trace.ParseTraceState(state) // an invalid one is omitted
	return trace.NewSpanContext(is)
}

// rootID is the key under which a context has the trace id of a new trace.
type rootID struct{}

// ids generates ids, or uses the one by which a new trace was sampled.
type ids struct{}

// NewIDs implements [sdktrace.IDGenerator].
func (g ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, _ := ctx.Value(rootID{}).(trace.TraceID)
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID implements [sdktrace.IDGenerator].
func (ids) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], max(rand.Uint64(), 1)) //nolint:gosec // ids are unique, not secret
	return id
}
