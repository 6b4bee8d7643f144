package envoy

import (
	"context"
	"errors"
	"flag"
	"net/netip"
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
	"extauthz/keystore"
)

var update = flag.Bool("update", false, "write the goldens under testdata anew")

// decides is an Authorizer that has made up its mind.
type decides func(context.Context, authz.Request) (authz.Decision, error)

func (d decides) Authorize(ctx context.Context, r authz.Request) (authz.Decision, error) {
	return d(ctx, r)
}

// always decides on the code, with a key where the decision has one.
func always(code authz.Code) decides {
	d := authz.Decision{Code: code}
	if code != authz.MissingKey && code != authz.NotFound && code != authz.Unavailable {
		d.Key = &keystore.Key{ID: "key_acme_prod", Name: "Acme, production", ExternalID: "acme"}
	}
	return func(context.Context, authz.Request) (authz.Decision, error) { return d, nil }
}

// sameReply reports whether two replies say the same; headers are removed in no order
// and may be named twice.
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

// TestReplies holds every code's reply, to each kind of caller, to its golden.
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
				s := server(t, Config{Authorizer: always(code)})
				resp := check(t, s, a)
				golden(t, code.String()+"_"+caller, resp)
				c := new(call)
				c.read(a.mapped())
				written := new(authv3.CheckResponse)
				if err := proto.Unmarshal(s.answer(t.Context(), c), written); err != nil || !sameReply(written, resp) {
					t.Errorf("written to the wire, the reply is another (%v):\ngot  %v\nwant %v", err, written, resp)
				}
			})
		}
	}
}

// TestEveryRefusalRefuses holds that no code, known or not, makes a reply that Envoy would
// let through, unless it is VALID.
func TestEveryRefusalRefuses(t *testing.T) {
	for code := range 256 {
		s := server(t, Config{Authorizer: always(authz.Code(code))})
		resp := check(t, s, send("x-api-key", "secret"))
		if allowed := resp.GetStatus().GetCode() == 0 || resp.GetOkResponse() != nil; allowed != (authz.Code(code) == authz.Valid) {
			t.Errorf("code %d: %v", code, resp)
		}
	}
	zero := new(reply).response()
	if zero.GetStatus().GetCode() == 0 || zero.GetErrorResponse().GetStatus().GetCode() != 503 || codeOf(t, zero) != "UNAVAILABLE" {
		t.Errorf("the zero reply does not refuse: %v", zero)
	}
}

func TestStatuses(t *testing.T) {
	statuses := map[authz.Code]int{authz.Expired: 403, authz.Forbidden: 401, authz.RateLimited: 503, authz.Disabled: 429, authz.Unavailable: 500}
	for code, want := range statuses {
		resp := check(t, server(t, Config{Authorizer: always(code), Statuses: statuses}), send("x-api-key", "secret"))
		refusal := resp.GetDeniedResponse()
		if code == authz.Unavailable {
			refusal = resp.GetErrorResponse()
		}
		if got := int(refusal.GetStatus().GetCode()); got != want {
			t.Errorf("%s: status %d, want %d", code, got, want)
		}
		names := make(map[string]string)
		for _, h := range refusal.GetHeaders() {
			names[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
		}
		if _, ok := names["www-authenticate"]; ok != (want == 401) {
			t.Errorf("%s: www-authenticate beside status %d: %v", code, want, ok)
		}
		if _, ok := names["retry-after"]; ok != (want == 429 || code == authz.RateLimited) {
			t.Errorf("%s: retry-after beside status %d: %v", code, want, ok)
		}
		if codeOf(t, resp) != code.String() {
			t.Errorf("%s: the metadata says %s", code, codeOf(t, resp))
		}
	}
}

func TestNew(t *testing.T) {
	ok := decides(nil)
	tests := []struct {
		name string
		cfg  Config
		want []string // parts of the error; none: no error
	}{
		{"defaults", Config{Authorizer: ok}, nil},
		{"nothing", Config{}, []string{"no Authorizer"}},
		{"every error at once", Config{
			KeySources:    []KeySource{{}, {Header: "a b"}},
			ClientAddress: TrustedHops(0, true),
			Statuses:      map[authz.Code]int{authz.Forbidden: 200},
		}, []string{"no Authorizer", "entry 1: write exactly one", `entry 2: header: "a b"`, "trusted_hops: 0", "FORBIDDEN: 200 does not refuse"}},
		{"status for VALID", Config{Authorizer: ok, Statuses: map[authz.Code]int{authz.Valid: 403}}, []string{"VALID is not the code of a refusal"}},
		{"status of a code that is none", Config{Authorizer: ok, Statuses: map[authz.Code]int{200: 403}}, []string{"is not the code of a refusal"}},
		{"status 399", Config{Authorizer: ok, Statuses: map[authz.Code]int{authz.Expired: 399}}, []string{"399"}},
		{"status 600", Config{Authorizer: ok, Statuses: map[authz.Code]int{authz.Expired: 600}}, []string{"600"}},
		{"statuses 400 and 599", Config{Authorizer: ok, Statuses: map[authz.Code]int{authz.Expired: 400, authz.Disabled: 599}}, nil},
		{"same source twice", Config{Authorizer: ok, KeySources: []KeySource{{Header: "Authorization", Scheme: "Bearer"}, {Header: "authorization", Scheme: "bearer"}}}, []string{"entry 2 is the same as entry 1"}},
		{"same header, two schemes", Config{Authorizer: ok, KeySources: []KeySource{{Header: "authorization", Scheme: "Bearer"}, {Header: "authorization", Scheme: "ApiKey"}, {Header: "authorization"}}}, nil},
		{"query names differ in case", Config{Authorizer: ok, KeySources: []KeySource{{Query: "key"}, {Query: "KEY"}}}, nil},
		{"header and query", Config{Authorizer: ok, KeySources: []KeySource{{Header: "x", Query: "x"}}}, []string{"exactly one"}},
		{"scheme alone", Config{Authorizer: ok, KeySources: []KeySource{{Scheme: "Bearer"}}}, []string{"exactly one"}},
		{"scheme of a query", Config{Authorizer: ok, KeySources: []KeySource{{Query: "x", Scheme: "Bearer"}}}, []string{"only a header has one"}},
		{"scheme with a space", Config{Authorizer: ok, KeySources: []KeySource{{Header: "x", Scheme: "Bearer "}}}, []string{"not the name of an authentication scheme"}},
		{"pseudo-header", Config{Authorizer: ok, KeySources: []KeySource{{Header: ":path"}}}, []string{"not the name of a header"}},
		{"host", Config{Authorizer: ok, KeySources: []KeySource{{Header: "Host"}}}, []string{"host is where"}},
		{"cookie as a header", Config{Authorizer: ok, KeySources: []KeySource{{Header: "Cookie"}}}, []string{"write cookie:"}},
		{"our own header", Config{Authorizer: ok, KeySources: []KeySource{{Header: "X-Extauthz_Key"}}}, []string{"begins with x-extauthz-"}},
		{"query that would be encoded", Config{Authorizer: ok, KeySources: []KeySource{{Query: "api key"}}}, []string{"not a plain name"}},
		{"cookie with =", Config{Authorizer: ok, KeySources: []KeySource{{Cookie: "a=b"}}}, []string{"not the name of a cookie"}},
		{"no proxies", Config{Authorizer: ok, ClientAddress: TrustedProxies(nil)}, []string{"trusted_proxies is empty"}},
		{"proxies with host bits", Config{Authorizer: ok, ClientAddress: TrustedProxies([]netip.Prefix{netip.MustParsePrefix("10.1.2.3/8")})}, []string{"did you mean 10.0.0.0/8"}},
		{"proxies mapped", Config{Authorizer: ok, ClientAddress: TrustedProxies([]netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")})}, []string{"IPv4-mapped"}},
		{"proxies, many zero", Config{Authorizer: ok, ClientAddress: TrustedProxies(make([]netip.Prefix, 20))}, []string{"not a CIDR range"}},
		{"address header is a list", Config{Authorizer: ok, ClientAddress: Header("X-Forwarded-For")}, []string{"x-forwarded-for is a list"}},
		{"address header is nothing", Config{Authorizer: ok, ClientAddress: Header("")}, []string{"not the name of a header"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(tt.cfg)
			if (err == nil) != (len(tt.want) == 0) || (s == nil) != (err != nil) {
				t.Fatalf("New returned %v, %v", s, err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
		})
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
	s := server(t, Config{Authorizer: authorizer(keyFor("secret")), KeySources: []KeySource{{Header: "x-api-key"}, {Query: "key"}, {Cookie: "key"}, {Header: "authorization", Scheme: "Bearer"}}})
	for name, req := range strangeRequests() {
		if resp, err := s.Check(t.Context(), req); err != nil || codeOf(t, resp) != "MISSING_KEY" {
			t.Errorf("%s: %v, %v", name, resp, err)
		}
	}
	for _, path := range []string{"", "?", "*", "#", "%", "/%zz?%zz=%zz&&=&", "?&", "/?key", "\x00", strings.Repeat("/", 1<<16), strings.Repeat("?&=", 1<<10)} {
		if code := codeOf(t, check(t, s, send().to(path))); code != "MISSING_KEY" {
			t.Errorf("path %.20q: %s", path, code)
		}
	}
}

// TestBothEncodingsAtOnce: Envoy never sends both. Where both carry the secret, it is nobody's.
func TestBothEncodingsAtOnce(t *testing.T) {
	req := send("x-api-key", "secret").mapped()
	req.Attributes.Request.Http.HeaderMap = send("x-api-key", "secret").raw().Attributes.Request.Http.HeaderMap
	s := server(t, Config{Authorizer: authorizer(keyFor("secret"))})
	if resp, _ := s.Check(t.Context(), req); codeOf(t, resp) != "NOT_FOUND" {
		t.Errorf("got %v", resp)
	}
}

// TestHeaderMapValue: a header_map entry may have a value in the place of its raw_value.
func TestHeaderMapValue(t *testing.T) {
	req := send().raw()
	m := req.Attributes.Request.Http.HeaderMap
	m.Headers = append(m.Headers, &corev3.HeaderValue{Key: "X-API-Key", Value: "secret"})
	s := server(t, Config{Authorizer: authorizer(keyFor("secret"))})
	if resp, _ := s.Check(t.Context(), req); codeOf(t, resp) != "VALID" {
		t.Errorf("got %v", resp)
	}
}

func TestNoDecision(t *testing.T) {
	key := &keystore.Key{ID: "key_a"}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	down := errors.New("store: connection refused")
	tests := []struct {
		name    string
		ctx     context.Context //nolint:containedctx // a row of a table
		decides decides
		secret  string
		err     string
	}{
		{"an error beside VALID", t.Context(), func(context.Context, authz.Request) (authz.Decision, error) {
			return authz.Decision{Code: authz.Valid, Key: key}, down
		}, "s", "connection refused"},
		{"an error", t.Context(), func(context.Context, authz.Request) (authz.Decision, error) {
			return authz.Decision{Key: key}, down
		}, "s", "connection refused"},
		{"VALID without a key", t.Context(), always(authz.Valid).without(), "s", "without a secret or a key"},
		{"VALID without a secret", t.Context(), always(authz.Valid), "", "without a secret or a key"},
		{"too late", ended, always(authz.Valid), "s", "context canceled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var seen Observation
			s := server(t, Config{Authorizer: tt.decides, ForwardKey: true, Observe: func(_ context.Context, o *Observation) { seen = *o }})
			resp, err := s.Check(tt.ctx, send("x-api-key", tt.secret).mapped())
			if err != nil || codeOf(t, resp) != "UNAVAILABLE" || resp.GetErrorResponse().GetStatus().GetCode() != 503 {
				t.Errorf("got %v, %v", resp, err)
			}
			if seen.Err == nil || !strings.Contains(seen.Err.Error(), tt.err) || seen.Decision.Code != authz.Unavailable || seen.Panicked {
				t.Errorf("observed %+v", seen)
			}
			if strings.Contains(resp.GetErrorResponse().GetBody(), "key_a") {
				t.Errorf("the body names the key: %s", resp.GetErrorResponse().GetBody())
			}
		})
	}
}

// without takes the key out of the decision.
func (d decides) without() decides {
	return func(ctx context.Context, r authz.Request) (authz.Decision, error) {
		decision, err := d(ctx, r)
		decision.Key = nil
		return decision, err
	}
}

func TestContextIsPassedOn(t *testing.T) {
	type mark struct{}
	s := server(t, Config{Authorizer: decides(func(ctx context.Context, _ authz.Request) (authz.Decision, error) {
		if ctx.Value(mark{}) == nil {
			t.Error("Authorize was given another context")
		}
		return authz.Decision{}, nil
	})})
	_, _ = s.Check(context.WithValue(t.Context(), mark{}, true), send().mapped())
}

func TestPanics(t *testing.T) {
	const secret = "sk_live_topsecret"
	var nobody map[string]int
	for name, boom := range map[string]func(authz.Request){
		"a value":        func(r authz.Request) { panic("bad secret " + string(r.Secret)) },
		"an error":       func(r authz.Request) { panic(errors.New(string(r.Secret))) },
		"a nil map":      func(authz.Request) { nobody["x"]++ },
		"out of range":   func(authz.Request) { _ = secret[len(secret)+len(nobody)] },
		"nil, of no use": func(authz.Request) { panic(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			var seen []Observation
			s := server(t, Config{
				Authorizer: decides(func(_ context.Context, r authz.Request) (authz.Decision, error) {
					boom(r)
					return authz.Decision{Code: authz.Valid}, nil
				}),
				Observe: func(_ context.Context, o *Observation) { seen = append(seen, *o) },
			})
			resp := check(t, s, send("x-api-key", secret, "x-request-id", "r1"))
			if codeOf(t, resp) != "UNAVAILABLE" || !strings.Contains(resp.GetErrorResponse().GetBody(), `"r1"`) {
				t.Errorf("got %v", resp)
			}
			for _, o := range seen {
				if !o.Panicked || o.Err == nil || o.Decision != (authz.Decision{}) {
					t.Errorf("observed %+v", o)
				}
				if strings.Contains(o.Err.Error(), secret) || !strings.Contains(o.Err.Error(), "TestPanics") {
					t.Errorf("the error holds the secret, or does not say where: %v", o.Err)
				}
			}
			if len(seen) != 2 {
				t.Errorf("observed %d checks, want 2", len(seen))
			}
		})
	}
}

func TestPanicWhileObserving(t *testing.T) {
	s := server(t, Config{Authorizer: always(authz.Valid), Observe: func(context.Context, *Observation) { panic("full disk") }})
	if code := codeOf(t, check(t, s, send("x-api-key", "secret"))); code != "UNAVAILABLE" {
		t.Errorf("got %s", code)
	}
}

func TestObservation(t *testing.T) {
	var seen Observation
	s := server(t, Config{
		Authorizer: authorizer(keyFor("secret", "203.0.113.0/24")), ClientAddress: lb, KeySources: []KeySource{{Query: "key"}},
		Observe: func(_ context.Context, o *Observation) { seen = *o },
	})
	check(t, s, send("x-request-id", "r1", "x-forwarded-for", "203.0.113.9").from("10.0.0.1").to("/a/b?key=secret"))
	want := Observation{
		Decision: seen.Decision, ClientAddr: netip.MustParseAddr("203.0.113.9"), AddrFrom: "x-forwarded-for",
		RequestID: "r1", Method: "GET", Host: "api.example", Path: "/a/b", Duration: seen.Duration,
	}
	if seen != want || seen.Decision.Code != authz.Valid || seen.Decision.Key.ID != "key_secret" || seen.Duration <= 0 {
		t.Errorf("observed %+v", seen)
	}

	long := strings.Repeat("é", 4000)
	resp := check(t, s, send("x-request-id", long, "x-forwarded-for", "unknown").from("10.0.0.1").to("/"+long+"?key=nope"))
	if len(seen.Path) > 1024 || len(seen.Path) < 1020 || len(seen.RequestID) != 128 || !errors.Is(seen.AddrErr, errBadEntry) || seen.ClientAddr.IsValid() {
		t.Errorf("observed %+v", seen)
	}
	if body := resp.GetDeniedResponse().GetBody(); len(body) > 300 || codeOf(t, resp) != "NOT_FOUND" {
		t.Errorf("the body is %s", body)
	}
}
