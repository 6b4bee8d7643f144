package envoy

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/keystore"
	"extauthz/ratelimit/memory"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// An ask is one request as a caller sends it. Envoy encodes it in one of two ways, which must not change the
// reply.
type ask struct {
	peer    string // empty: a unix socket
	path    string
	headers []field
	context []field // the route's context extensions
}

// send is a GET of / from 192.0.2.1 with these headers: name, value, name, value …
func send(headers ...string) ask {
	a := ask{peer: "192.0.2.1", path: "/"}
	for i := 0; i < len(headers); i += 2 {
		a.headers = append(a.headers, field{Name: headers[i], Value: headers[i+1]})
	}
	return a
}

func (a ask) from(peer string) ask { a.peer = peer; return a }
func (a ask) to(path string) ask   { a.path = path; return a }

// with adds context extensions to the request: name, value, name, value …
func (a ask) with(extensions ...string) ask {
	for i := 0; i < len(extensions); i += 2 {
		a.context = append(a.context, field{Name: extensions[i], Value: extensions[i+1]})
	}
	return a
}

// all returns the request's headers as Envoy lists them.
func (a ask) all() []field {
	return append([]field{
		{Name: ":authority", Value: "api.example"}, {Name: ":method", Value: "GET"}, {Name: ":path", Value: a.path}, {Name: ":scheme", Value: "https"},
	}, a.headers...)
}

func (a ask) request() *authv3.CheckRequest {
	address := &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/run/envoy.sock"}}}
	if a.peer != "" {
		address.Address = &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: a.peer, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 40000},
		}}
	}
	var extensions map[string]string
	for _, f := range a.context {
		if extensions == nil {
			extensions = make(map[string]string)
		}
		extensions[f.Name] = f.Value
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: extensions,
		Source:            &authv3.AttributeContext_Peer{Address: address},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: "13354639564894094939", Method: "GET", Path: envoyUTF8(a.path), Host: "api.example", Scheme: "https", Protocol: "HTTP/1.1",
		}},
	}}
}

// mapped is the request as Envoy sends it by default.
func (a ask) mapped() *authv3.CheckRequest {
	r := a.request()
	m := make(map[string]string)
	for _, h := range a.all() {
		name, value := strings.ToLower(h.Name), envoyUTF8(h.Value)
		if before, ok := m[name]; ok {
			value = before + "," + value
		}
		m[name] = value
	}
	r.Attributes.Request.Http.Headers = m
	return r
}

// raw is the request as Envoy sends it under encode_raw_headers.
func (a ask) raw() *authv3.CheckRequest {
	r := a.request()
	m := new(corev3.HeaderMap)
	for _, h := range a.all() {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: strings.ToLower(h.Name), RawValue: []byte(h.Value)})
	}
	r.Attributes.Request.Http.HeaderMap = m
	return r
}

// envoyUTF8 is Envoy's MessageUtil::sanitizeUtf8String.
func envoyUTF8(s string) string {
	var out strings.Builder
	for s != "" {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			out.WriteByte('!')
		} else {
			out.WriteString(s[:n])
		}
		s = s[n:]
	}
	return out.String()
}

// encodings yields the request in both encodings.
func (a ask) encodings(yield func(string, *authv3.CheckRequest) bool) {
	_ = yield("headers", a.mapped()) && yield("header_map", a.raw())
}

// keys is a store.
type keys map[keystore.Hash]*keystore.Key

func (k keys) Lookup(_ context.Context, h keystore.Hash) (*keystore.Key, error) {
	if key := k[h]; key != nil {
		return key, nil
	}
	return nil, keystore.ErrNotFound
}

// keyFor returns the key with this secret; without ranges it may be used from anywhere.
func keyFor(secret string, ranges ...string) *keystore.Key {
	k := &keystore.Key{ID: "key_" + strings.Trim(secret, "_"), Hash: keystore.Secret(secret).Hash(), Enabled: true, Whitelist: keystore.Anywhere()}
	if len(ranges) > 0 {
		var prefixes []netip.Prefix
		for _, r := range ranges {
			prefixes = append(prefixes, prefix(r))
		}
		k.Whitelist = keystore.NewWhitelist(prefixes)
	}
	return k
}

func prefix(s string) netip.Prefix {
	p, err := keystore.ParseWhitelistEntry(s)
	if err != nil {
		panic(err)
	}
	return p
}

// authorizer returns an authorizer for these keys, with their permissions and rate limits and a fixed clock.
func authorizer(all ...*keystore.Key) check.Authorizer {
	store := make(keys)
	for _, k := range all {
		store[k.Hash] = k
	}
	clock := func() time.Time { return now }
	return authz.New(store, clock, authz.WithLimits(authz.Limits{Limiter: memory.New(clock)}))
}

func server(t testing.TB, cfg check.Config) *Server {
	t.Helper()
	c, err := check.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return New(c)
}

// replyTo sends the request in both encodings, checks that the replies are equal, and returns the reply.
func replyTo(t *testing.T, s *Server, a ask) *authv3.CheckResponse {
	t.Helper()
	var first *authv3.CheckResponse
	for encoding, req := range a.encodings {
		resp, err := s.Check(t.Context(), req)
		if err != nil {
			t.Fatalf("%s: Check returned the error %v", encoding, err)
		}
		if first == nil {
			first = resp
		} else if !sameReply(first, resp) {
			t.Fatalf("the encodings are answered differently:\nheaders:    %v\nheader_map: %v", first, resp)
		}
	}
	return first
}

// codeOf returns the code in the reply's metadata, and checks that the rest of the reply agrees with it.
func codeOf(t *testing.T, resp *authv3.CheckResponse) string {
	t.Helper()
	code := resp.GetDynamicMetadata().GetFields()["code"].GetStringValue()
	allows := resp.GetStatus().GetCode() == 0
	dryRun := resp.GetDynamicMetadata().GetFields()["dry_run"].GetStringValue() == "true"
	if allows != (code == "VALID" || dryRun) || allows != (resp.GetOkResponse() != nil) {
		t.Fatalf("the reply contradicts itself: %v", resp)
	}
	return code
}

// proxies is the range of a chain of load balancers.
var proxies = check.TrustedProxies([]netip.Prefix{prefix("10.0.0.0/8")}, check.WithoutPort)

func TestRequestID(t *testing.T) {
	for id, known := range map[string]bool{
		"13354639564894094939": true, "984001446484667826": true, "1000000000": true,
		"": false, "17": false, "999999999": false, "133546395648940949391": false, "-3354639564894094939": false,
		"b3ae2f17-68c4-4f2a-9d4a-1f3f2b1c0d9e": false, "1335463956489409493!": false,
	} {
		if got := requestID(id); (got == id) != known && id != "" || got != "" && got != id {
			t.Errorf("%q: %q", id, got)
		}
	}
}
