package envoy

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/keystore"
)

var update = flag.Bool("update", false, "write the goldens under testdata anew")

// decides is a check.Authorizer with a fixed decision.
type decides func(context.Context, authz.Request) (authz.Decision, error)

func (d decides) Authorize(ctx context.Context, r authz.Request) (authz.Decision, error) {
	return d(ctx, r)
}

// always returns a checker that decides on the code, with a key if such decisions have one.
func always(code authz.Code) decides {
	d := authz.Decision{Code: code}
	if code != authz.MissingKey && code != authz.NotFound && code != authz.Unavailable {
		d.Key = &keystore.Key{ID: "key_acme_prod", Name: "Acme, production", ExternalID: "acme"}
	}
	return func(context.Context, authz.Request) (authz.Decision, error) { return d, nil }
}

// sameReply reports whether two replies are equivalent: headers to remove may be in any order and repeated.
func sameReply(a, b *authv3.CheckResponse) bool { return proto.Equal(ordered(a), ordered(b)) }

func ordered(r *authv3.CheckResponse) *authv3.CheckResponse {
	r = proto.CloneOf(r)
	if ok := r.GetOkResponse(); ok != nil {
		slices.Sort(ok.HeadersToRemove)
		ok.HeadersToRemove = slices.Compact(ok.HeadersToRemove)
	}
	return r
}

func golden(t *testing.T, name string, got *authv3.CheckResponse) {
	t.Helper()
	path := filepath.Join("testdata", name+".json")
	if *update {
		b, err := protojson.MarshalOptions{Multiline: true, Indent: "  "}.Marshal(got)
		if err == nil {
			err = os.WriteFile(path, append(b, '\n'), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := new(authv3.CheckResponse)
	if err := protojson.Unmarshal(b, want); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if !sameReply(got, want) {
		t.Errorf("the reply is not the one in %s:\ngot  %v\nwant %v", path, got, want)
	}
}

// TestReplies compares every code's reply, to each kind of caller, with its golden.
func TestReplies(t *testing.T) {
	callers := map[string]ask{
		"http": send("x-api-key", "secret", "x-request-id", "b3ae2f17-68c4-4f2a-9d4a-1f3f2b1c0d9e", "x-extauthz-key-id", "root",
			"x-extauthz-admin", "yes", "X_Extauthz_Key_Id", "root"),
		"grpc":    send("x-api-key", "secret", "x-request-id", "b3ae2f17", "content-type", "application/grpc+proto"),
		"nowhere": send("x-api-key", "secret").from(""),
	}
	for _, code := range authz.Codes() {
		for caller, a := range callers {
			t.Run(code.String()+"/"+caller, func(t *testing.T) {
				s := server(t, check.Config{Authorizer: always(code)})
				replies(t, s, code.String()+"_"+caller, a)
			})
		}
	}
}

// TestEveryRefusalRefuses checks that Envoy allows the reply for no code, known or not, except VALID.
func TestEveryRefusalRefuses(t *testing.T) {
	for code := range 256 {
		s := server(t, check.Config{Authorizer: always(authz.Code(code))})
		resp := replyTo(t, s, send("x-api-key", "secret"))
		if allowed := resp.GetStatus().GetCode() == 0 || resp.GetOkResponse() != nil; allowed != (authz.Code(code) == authz.Valid) {
			t.Errorf("code %d: %v", code, resp)
		}
	}
	zero, _ := new(Server).Check(t.Context(), send("x-api-key", "secret").mapped())
	if zero.GetDeniedResponse() == nil {
		t.Errorf("the zero Server does not deny: %v", zero)
	}
	for _, resp := range []*authv3.CheckResponse{zero, response(new(check.Outcome))} {
		if status := max(resp.GetErrorResponse().GetStatus().GetCode(), resp.GetDeniedResponse().GetStatus().GetCode()); resp.GetStatus().GetCode() == 0 || status != 503 || codeOf(t, resp) != "UNAVAILABLE" {
			t.Errorf("the zero value does not refuse: %v", resp)
		}
	}
}

// strangeRequests are requests that Envoy does not send, or that have no client address.
func strangeRequests() map[string]*authv3.CheckRequest {
	with := func(change func(*authv3.AttributeContext)) *authv3.CheckRequest {
		r := send().mapped()
		change(r.Attributes)
		return r
	}
	return map[string]*authv3.CheckRequest{
		"nil":           nil,
		"empty":         {},
		"no attributes": {Attributes: &authv3.AttributeContext{}},
		"no source":     with(func(a *authv3.AttributeContext) { a.Source = nil }),
		"no address":    with(func(a *authv3.AttributeContext) { a.Source.Address = nil }),
		"empty address": with(func(a *authv3.AttributeContext) { a.Source.Address = &corev3.Address{} }),
		"nil socket address": with(func(a *authv3.AttributeContext) {
			a.Source.Address = &corev3.Address{Address: &corev3.Address_SocketAddress{}}
		}),
		"internal address": with(func(a *authv3.AttributeContext) {
			a.Source.Address = &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
				AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: "192.0.2.1"}, EndpointId: "192.0.2.1",
			}}}
		}),
		"pipe named as an address": with(func(a *authv3.AttributeContext) {
			a.Source.Address = &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "192.0.2.1"}}}
		}),
		"destination only": with(func(a *authv3.AttributeContext) { a.Destination, a.Source = a.Source, nil }),
		"nil header": with(func(a *authv3.AttributeContext) {
			a.Source, a.Request.Http.HeaderMap = nil, &corev3.HeaderMap{Headers: []*corev3.HeaderValue{nil, {}}}
		}),
		"no http": with(func(a *authv3.AttributeContext) { a.Source, a.Request.Http = nil, nil }),
	}
}

func TestStrangeRequestsAreRefused(t *testing.T) {
	s := server(t, check.Config{Authorizer: authorizer(keyFor("secret")), KeySources: []check.KeySource{check.Header("x-api-key"), check.Query("key"), check.Cookie("key"), check.Scheme("authorization", "Bearer")}})
	for name, req := range strangeRequests() {
		if resp, err := s.Check(t.Context(), req); err != nil || codeOf(t, resp) != "MISSING_KEY" {
			t.Errorf("%s: %v, %v", name, resp, err)
		}
	}
	for _, path := range []string{"", "?", "*", "#", "%", "/%zz?%zz=%zz&&=&", "?&", "/?key", "\x00", strings.Repeat("/", 1<<16), strings.Repeat("?&=", 1<<10)} {
		if code := codeOf(t, replyTo(t, s, send().to(path))); code != "MISSING_KEY" {
			t.Errorf("path %.20q: %s", path, code)
		}
	}
}

// TestBothEncodingsAtOnce: Envoy never sends both. If both carry the secret, it belongs to no key.
func TestBothEncodingsAtOnce(t *testing.T) {
	req := send("x-api-key", "secret").mapped()
	req.Attributes.Request.Http.HeaderMap = send("x-api-key", "secret").raw().Attributes.Request.Http.HeaderMap
	s := server(t, check.Config{Authorizer: authorizer(keyFor("secret"))})
	if resp, _ := s.Check(t.Context(), req); codeOf(t, resp) != "NOT_FOUND" {
		t.Errorf("got %v", resp)
	}
}

// TestHeaderMapValue: a header_map entry may have a value instead of a raw_value.
func TestHeaderMapValue(t *testing.T) {
	req := send().raw()
	m := req.Attributes.Request.Http.HeaderMap
	m.Headers = append(m.Headers, &corev3.HeaderValue{Key: "X-API-Key", Value: "secret"})
	s := server(t, check.Config{Authorizer: authorizer(keyFor("secret"))})
	if resp, _ := s.Check(t.Context(), req); codeOf(t, resp) != "VALID" {
		t.Errorf("got %v", resp)
	}
}

// TestInternalAddressIsNone: an address that is not a socket address is no client address.
func TestInternalAddressIsNone(t *testing.T) {
	for name, req := range strangeRequests() {
		var a attributes
		if a.read(req); a.Peer != "" {
			t.Errorf("%s: got the peer %q", name, a.Peer)
		}
	}
}

// TestPath: a secret in the query is removed by setting :path, or, if that is not allowed, by
// query_parameters_to_remove; never by both.
func TestPath(t *testing.T) {
	cfg := check.Config{Authorizer: authorizer(keyFor("secret")), KeySources: []check.KeySource{check.Query("key")}}
	checker, err := check.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		server  *Server
		path    string
		removed []string
	}{
		{New(checker), "/x?b=2&a", nil},
		{New(checker, KeepPath()), "", []string{"key"}},
	} {
		a := send().to("/x?b=2&key=secret&a")
		ok := replyTo(t, tt.server, a).GetOkResponse()
		path := ""
		for _, h := range ok.GetHeaders() {
			if h.GetHeader().GetKey() == ":path" {
				path = h.GetHeader().GetValue()
			}
		}
		if path != tt.path || !slices.Equal(ok.GetQueryParametersToRemove(), tt.removed) {
			t.Errorf("the path is %q, removed are %q", path, ok.GetQueryParametersToRemove())
		}
		c := new(call)
		c.read(a.mapped())
		written := new(authv3.CheckResponse)
		if err := proto.Unmarshal(tt.server.answer(t.Context(), c), written); err != nil || !proto.Equal(written.GetOkResponse(), ok) {
			t.Errorf("written to the wire: %v (%v)\nwant %v", written, err, ok)
		}
	}
}
