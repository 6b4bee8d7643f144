// Package otlptest receives spans in tests, as an OpenTelemetry collector does.
package otlptest

import (
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// A Span is a received span.
type Span struct {
	Service, Name         string
	TraceID, ID, ParentID string // in hexadecimal digits; "" for no parent
	Kind                  tracepb.Span_SpanKind
	Start, End            uint64 // in nanoseconds since 1970
	State, Error          string // of the trace; the status's text
	Failed                bool
	Attributes            map[string]string
	Links                 []string // trace ids
}

// A Receiver receives spans over gRPC and HTTP. It ends with the test.
type Receiver struct {
	collectorpb.UnimplementedTraceServiceServer

	GRPC, HTTP string // URLs, without a path

	mu    sync.Mutex
	spans []Span
	gate  chan struct{} // if non-nil, each export waits until it is closed
}

// Start starts a receiver.
func Start(t testing.TB) *Receiver {
	t.Helper()
	r := new(Receiver)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(g, r)
	go func() { _ = g.Serve(lis) }() // ends with Stop
	t.Cleanup(g.Stop)
	web := httptest.NewServer(http.HandlerFunc(r.post))
	t.Cleanup(web.Close)
	r.GRPC, r.HTTP = "http://"+lis.Addr().String(), web.URL
	return r
}

// Hang makes later exports wait until the returned function is called.
func (r *Receiver) Hang() (release func()) {
	gate := make(chan struct{})
	r.mu.Lock()
	r.gate = gate
	r.mu.Unlock()
	return sync.OnceFunc(func() { close(gate) })
}

// Spans returns the spans received so far.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// Named returns the spans with this name.
func (r *Receiver) Named(name string) []Span {
	return slices.DeleteFunc(r.Spans(), func(s Span) bool { return s.Name != name })
}

// Export implements the collector's service.
func (r *Receiver) Export(ctx context.Context, req *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	gate := r.gate
	r.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range req.GetResourceSpans() {
		service := attributes(resource.GetResource().GetAttributes())["service.name"]
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				r.spans = append(r.spans, span(service, s))
			}
		}
	}
	return new(collectorpb.ExportTraceServiceResponse), nil
}

func (r *Receiver) post(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	export := new(collectorpb.ExportTraceServiceRequest)
	if err != nil || req.Method != http.MethodPost || req.URL.Path != "/v1/traces" || proto.Unmarshal(body, export) != nil {
		http.Error(w, "not an export of spans", http.StatusBadRequest)
		return
	}
	if _, err := r.Export(req.Context(), export); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf") // an empty body is an empty response
}

func span(service string, s *tracepb.Span) Span {
	is := Span{
		Service: service, Name: s.GetName(), Kind: s.GetKind(), Start: s.GetStartTimeUnixNano(), End: s.GetEndTimeUnixNano(),
		TraceID: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), ParentID: hex.EncodeToString(s.GetParentSpanId()),
		State: s.GetTraceState(), Error: s.GetStatus().GetMessage(), Failed: s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,
		Attributes: attributes(s.GetAttributes()),
	}
	for _, l := range s.GetLinks() {
		is.Links = append(is.Links, hex.EncodeToString(l.GetTraceId()))
	}
	return is
}

func attributes(list []*commonpb.KeyValue) map[string]string {
	is := make(map[string]string, len(list))
	for _, a := range list {
		switch v := a.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			is[a.GetKey()] = v.StringValue
		default:
			is[a.GetKey()] = a.GetValue().String()
		}
	}
	return is
}
