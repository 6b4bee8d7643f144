package envoy

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"extauthz/authz"
	"extauthz/check"
)

// rawCodec sends bytes unchanged.
type rawCodec struct{ encoding.CodecV2 }

func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

// sendRaw sends a message to the check method and returns the response. An error fails the test.
func sendRaw(t *testing.T, conn *grpc.ClientConn, message []byte) *authv3.CheckResponse {
	t.Helper()
	resp := new(authv3.CheckResponse)
	err := conn.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, message, resp,
		grpc.ForceCodecV2(rawCodec{encoding.GetCodecV2(encodingproto.Name)}))
	if err != nil {
		t.Fatalf("%.100x: an RPC error: %v", message, err)
	}
	return resp
}

// interceptors are servers with and without an interceptor, which gets the generated types.
var interceptors = map[string][]grpc.ServerOption{
	"plain": nil,
	"intercepted": {grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		return handler(ctx, req.(*authv3.CheckRequest))
	})},
}

// marked is replaced with bytes that are not UTF-8 after the request is encoded, because the generated code
// does not encode such bytes.
const marked = "@@@"

// markable sets each field of a request that may contain a caller's bytes.
var markable = map[string]func(*authv3.AttributeContext){
	"sni":                    func(a *authv3.AttributeContext) { a.TlsSession = &authv3.AttributeContext_TLSSession{Sni: marked} },
	"metadata_context":       func(a *authv3.AttributeContext) { a.MetadataContext = metadataOf("x-tenant", marked) },
	"metadata_context names": func(a *authv3.AttributeContext) { a.MetadataContext = metadataOf(marked, "a") },
	"route_metadata_context": func(a *authv3.AttributeContext) { a.RouteMetadataContext = metadataOf("x-tenant", marked) },
	"source.principal":       func(a *authv3.AttributeContext) { a.Source.Principal = marked },
	"source.service":         func(a *authv3.AttributeContext) { a.Source.Service = marked },
	"source.certificate":     func(a *authv3.AttributeContext) { a.Source.Certificate = marked },
	"source.labels":          func(a *authv3.AttributeContext) { a.Source.Labels = map[string]string{marked: marked} },
	"source.address":         func(a *authv3.AttributeContext) { a.Source.GetAddress().GetSocketAddress().ResolverName = marked },
	"destination": func(a *authv3.AttributeContext) {
		a.Destination = &authv3.AttributeContext_Peer{Principal: marked, Service: marked}
	},
	"context_extensions": func(a *authv3.AttributeContext) { a.ContextExtensions = map[string]string{"x": marked, marked: "y"} },
	"id":                 func(a *authv3.AttributeContext) { a.Request.Http.Id = marked },
	"method":             func(a *authv3.AttributeContext) { a.Request.Http.Method = marked },
	"path":               func(a *authv3.AttributeContext) { a.Request.Http.Path = "/" + marked },
	"host":               func(a *authv3.AttributeContext) { a.Request.Http.Host = marked },
	"scheme":             func(a *authv3.AttributeContext) { a.Request.Http.Scheme = marked },
	"query":              func(a *authv3.AttributeContext) { a.Request.Http.Query = marked },
	"fragment":           func(a *authv3.AttributeContext) { a.Request.Http.Fragment = marked },
	"protocol":           func(a *authv3.AttributeContext) { a.Request.Http.Protocol = marked },
	"body":               func(a *authv3.AttributeContext) { a.Request.Http.Body = marked },
	"raw_body":           func(a *authv3.AttributeContext) { a.Request.Http.RawBody = []byte(marked) },
	"headers": func(a *authv3.AttributeContext) {
		if a.Request.Http.Headers != nil {
			a.Request.Http.Headers["x-a"], a.Request.Http.Headers[marked] = marked, "b"
		}
	},
	"header_map": func(a *authv3.AttributeContext) {
		if m := a.Request.Http.HeaderMap; m != nil {
			m.Headers = append(m.Headers, &corev3.HeaderValue{Key: marked, Value: marked}, &corev3.HeaderValue{Key: "x-a", RawValue: []byte(marked)})
		}
	},
}

func metadataOf(name, value string) *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		"envoy.lb": {Fields: map[string]*structpb.Value{name: structpb.NewStringValue(value)}},
	}}
}

// TestNotUTF8: bytes that are not UTF-8 do not change the decision, in any field.
func TestNotUTF8(t *testing.T) {
	for kind, options := range interceptors {
		conn := dial(t, server(t, check.Config{Authorizer: authorizer(keyFor("alpha"))}), options...)
		for name, set := range markable {
			for want, a := range map[string]ask{"MISSING_KEY": send(), "VALID": send("x-api-key", "alpha"), "NOT_FOUND": send("x-api-key", "beta\xff")} {
				for encoding, req := range a.encodings {
					set(req.Attributes)
					b, err := proto.Marshal(req)
					if err != nil {
						t.Fatal(err)
					}
					for _, bad := range []string{"\xff\xff\xff", "a\xc3\x28", "\xed\xa0\x80"} {
						resp := sendRaw(t, conn, bytes.ReplaceAll(b, []byte(marked), []byte(bad)))
						if code := codeOf(t, resp); code != want || resp.GetErrorResponse() != nil {
							t.Errorf("%s, %s, %s, %q: %v, want %s", kind, name, encoding, bad, resp, want)
						}
					}
				}
			}
		}
	}
}

// TestCleaned: used fields are cleaned as Envoy cleans them.
func TestCleaned(t *testing.T) {
	var seen check.Observation
	s := server(t, check.Config{Authorizer: authorizer(keyFor("alpha!")), Observe: func(_ context.Context, o *check.Observation) {
		seen = *o
		seen.Method, seen.Host, seen.Path, seen.RequestID = strings.Clone(o.Method), strings.Clone(o.Host), strings.Clone(o.Path), strings.Clone(o.RequestID)
	}})
	req := send("x-api-key", "alpha"+marked, "x-request-id", "r"+marked).to("/p" + marked).mapped()
	req.Attributes.Request.Http.Host, req.Attributes.Request.Http.Method = "h"+marked, "M"+marked
	b, err := proto.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	resp := sendRaw(t, dial(t, s), bytes.ReplaceAll(b, []byte(marked), []byte("!\xc3\xff")))
	if got := seen.Method + seen.Host + seen.Path + seen.RequestID; codeOf(t, resp) != "NOT_FOUND" || got != "M!!!h!!!/p!!!r!!!" {
		t.Errorf("got %v; observed %q", resp, got)
	}
}

// TestUnreadable: a message that is not protobuf, or too large, is denied, even under failure_mode_allow, and
// observed.
func TestUnreadable(t *testing.T) {
	good, err := proto.Marshal(send("x-api-key", "alpha").mapped())
	if err != nil {
		t.Fatal(err)
	}
	for kind, options := range interceptors {
		var seen []error
		config := check.Config{Authorizer: always(authz.Valid), Observe: func(_ context.Context, o *check.Observation) { seen = append(seen, o.Err) }}
		conn := dialWith(t, server(t, config), 1024, options...)
		config.DryRun = true
		dryRun := dialWith(t, server(t, config), 1024, options...)
		for _, test := range []struct {
			name    string
			message []byte
			want    error
		}{
			{"cut", good[:len(good)-1], ErrMalformed},
			{"a length past the end", []byte("\x0a\x7f"), ErrMalformed},
			{"text", []byte("GET / HTTP/1.1\r\n\r\n"), ErrMalformed},
			{"the end of a group", append(bytes.Clone(good), 9<<3|4), ErrMalformed},
			{"too large", append(bytes.Clone(good), make([]byte, 1025-len(good))...), ErrTooLarge},
		} {
			seen = nil
			resp := sendRaw(t, conn, test.message)
			if denied := resp.GetDeniedResponse(); codeOf(t, resp) != "UNAVAILABLE" || denied.GetStatus().GetCode() != 503 || !strings.Contains(denied.GetBody(), "UNAVAILABLE") {
				t.Errorf("%s, %s: %v", kind, test.name, resp)
			}
			if len(seen) != 1 || !errors.Is(seen[0], test.want) {
				t.Errorf("%s, %s: observed %v, want %v", kind, test.name, seen, test.want)
			}
			if resp := sendRaw(t, dryRun, test.message); resp.GetOkResponse() == nil {
				t.Errorf("%s, %s: the dry run refused: %v", kind, test.name, resp)
			}
		}
		if resp := sendRaw(t, conn, append(bytes.Clone(good), fill(1024-len(good))...)); codeOf(t, resp) != "VALID" {
			t.Errorf("%s: a request of the largest size: %v", kind, resp)
		}
	}
}

// fill is an unknown field of n bytes, from 3 to 1000.
func fill(n int) []byte {
	b := make([]byte, n)
	copy(b, []byte{15<<3 | 2, byte(n-3)&0x7f | 0x80, byte((n - 3) >> 7)})
	return b
}

// TestLargeBody: a body in the check causes no refusal and is not copied.
func TestLargeBody(t *testing.T) {
	conn := dial(t, server(t, check.Config{Authorizer: authorizer(keyFor("alpha"))}))
	for want, a := range map[string]ask{"MISSING_KEY": send(), "VALID": send("x-api-key", "alpha")} {
		b, err := proto.Marshal(withBody(a.mapped(), 20<<20))
		if err != nil {
			t.Fatal(err)
		}
		if resp := sendRaw(t, conn, b); codeOf(t, resp) != want {
			t.Errorf("got %v, want %s", resp, want)
		}
	}

	b, err := proto.Marshal(withBody(send("x-api-key", "alpha").mapped(), 40<<20))
	if err != nil {
		t.Fatal(err)
	}
	var data mem.BufferSlice
	for len(b) > 0 { // as gRPC does, with buffers of 16 KiB and shorter ones
		n := min(len(b), 1+rand.IntN(16<<10))
		data, b = append(data, mem.SliceBuffer(b[:n])), b[n:]
	}
	c := new(call)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err = newCodec(New(nil, MaxMessageSize(maxMessageSize))).Unmarshal(data, c)
	runtime.ReadMemStats(&after)
	secret, _ := c.Header("x-api-key")
	if allocated := after.TotalAlloc - before.TotalAlloc; err != nil || c.unread != nil || secret != "alpha" || allocated > 1<<20 {
		t.Errorf("%v, %v, secret %q, %d bytes allocated for a message of 40 MiB", err, c.unread, secret, allocated)
	}
}

func TestMaxMessageSize(t *testing.T) {
	c := new(call)
	for n, want := range map[int]error{64: ErrMalformed, 65: ErrTooLarge} {
		large := slices.Repeat(mem.BufferSlice{mem.SliceBuffer(make([]byte, 1<<20))}, n)
		if _ = newCodec(New(nil, MaxMessageSize(maxMessageSize))).Unmarshal(large, c); !errors.Is(c.unread, want) {
			t.Errorf("%d MiB: %v, want %v", n, c.unread, want)
		}
	}
}

func withBody(req *authv3.CheckRequest, n int) *authv3.CheckRequest {
	req.Attributes.Request.Http.RawBody = make([]byte, n)
	return req
}

// TestManyHeaders: a request with unusually many headers is read in linear time, and its memory is not kept.
func TestManyHeaders(t *testing.T) {
	req := send().mapped()
	for i := range 200_000 {
		req.Attributes.Request.Http.Headers[strings.Repeat("x", i%7)+string(rune('a'+i%26))+strings.Repeat("y", i%31)+"-"+strconv.Itoa(i)] = "v"
	}
	b, err := proto.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	c := new(call)
	if err := newCodec(New(nil, MaxMessageSize(maxMessageSize))).Unmarshal(mem.BufferSlice{mem.SliceBuffer(append(b, b...))}, c); err != nil || c.unread != nil {
		t.Fatal(err, c.unread)
	}
	if len(c.Headers) != len(req.Attributes.Request.Http.Headers) {
		t.Errorf("%d headers, want %d", len(c.Headers), len(req.Attributes.Request.Http.Headers))
	}
	if c.Reset(); cap(c.Headers) > 1024 {
		t.Errorf("room for %d headers is kept", cap(c.Headers))
	}
}
