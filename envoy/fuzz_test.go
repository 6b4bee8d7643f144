package envoy

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"extauthz/check"
	"extauthz/keystore"
	"extauthz/ratelimit"
	"extauthz/route"
)

// fuzzServer has every kind of key source, and one key that may be used from one network.
func fuzzServer(f *testing.F) *Server {
	return server(f, check.Config{
		KeySources: []check.KeySource{
			check.Header("x-api-key"), check.Scheme("authorization", "Bearer"), check.Query("api_key"), check.Cookie("key"),
		},
		ClientAddress: proxies,
		Authorizer:    authorizer(fuzzKey()),
		Routes:        fuzzRoutes(),
	})
}

// fuzzKey may be used from one network, has one permission, and a rate limit with a long duration.
func fuzzKey() *keystore.Key {
	k := keyFor(fuzzSecret, "203.0.113.0/24")
	k.Permissions = []string{"documents.read"}
	k.Ratelimits = []keystore.Ratelimit{{Name: "requests", Limit: 1 << 40, Duration: time.Hour}, {Name: "exports", Limit: 1, Duration: time.Minute, OnDemand: true}}
	return k
}

func fuzzRoutes() *route.Table {
	t, _ := route.New([]route.Rule{{PathPrefix: "/admin", Permissions: "admin"}, {PathPrefix: "/export", Ratelimits: "exports=2"}})
	return t
}

const fuzzSecret = "sk_fuzz_V9q"

// addRequests seeds f with requests of every kind, in both encodings.
func addRequests(f *testing.F) {
	asks := []ask{
		send(), send("x-api-key", fuzzSecret), send("x-api-key", fuzzSecret).from("203.0.113.9"),
		send("x-api-key", fuzzSecret, "x-forwarded-for", "203.0.113.9, 10.0.0.2").from("10.0.0.1"),
		send("authorization", "Bearer "+fuzzSecret, "content-type", "application/grpc").from("203.0.113.9"),
		send("cookie", "a=1; key="+fuzzSecret, "x-extauthz-key-id", "root").from("203.0.113.9").to("/?api_key=x"),
		send("x-request-id", "r1").from("").to("/p?api_key=" + fuzzSecret),
		send("x-api-key", fuzzSecret).from("203.0.113.9").to("/export"),
		send("x-api-key", fuzzSecret).from("203.0.113.9").to("/%61dmin"),
		send("x-api-key", fuzzSecret).from("203.0.113.9").with("permissions", "documents.read", "ratelimits", "exports=0"),
		send("x-api-key", fuzzSecret).from("203.0.113.9").with("permissions", "(", "ratelimits", "="),
	}
	for _, a := range asks {
		for _, req := range a.encodings {
			b, err := proto.Marshal(req)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
}

// FuzzCheck checks that every request gets a reply, and is allowed only if it contains the secret of a key.
func FuzzCheck(f *testing.F) {
	addRequests(f)
	s := fuzzServer(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		req := new(authv3.CheckRequest)
		if proto.Unmarshal(b, req) != nil {
			return
		}
		resp, err := s.Check(t.Context(), req)
		if err != nil || resp == nil {
			t.Fatalf("got %v, %v", resp, err)
		}
		if codeOf(t, resp) == "VALID" && !holdsSecret(req) {
			t.Errorf("let through without a secret: %v", req)
		}
		if resp.GetErrorResponse() != nil && len(req.GetAttributes().GetContextExtensions()) == 0 {
			t.Errorf("failure_mode_allow would let it through: %v", req)
		}
		if _, err := proto.Marshal(resp); err != nil {
			t.Errorf("the reply cannot be sent: %v", err)
		}
	})
}

// FuzzAnswer checks that any bytes at all get a response that Envoy can decode, that none is an
// error, which failure_mode_allow lets through, unless the route's requirements are wrong, and that
// only a secret allows.
func FuzzAnswer(f *testing.F) {
	addRequests(f)
	f.Add([]byte("\x0a\x7f"))
	s, codec := fuzzServer(f), newCodec(New(nil, MaxMessageSize(1<<20)))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := new(call)
		if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, c); err != nil {
			t.Fatal(err)
		}
		req, resp := c.generated(), new(authv3.CheckResponse)
		if err := proto.Unmarshal(s.answer(t.Context(), c), resp); err != nil {
			t.Fatalf("the response cannot be decoded: %v", err)
		}
		if resp.GetErrorResponse() != nil && len(c.Extensions) == 0 {
			t.Errorf("failure_mode_allow would let it through: %v", req)
		}
		if codeOf(t, resp) == "VALID" && (c.unread != nil || !holdsSecret(req)) {
			t.Errorf("let through without a secret: %v", req)
		}
	})
}

// holdsSecret reports whether the request's path or headers contain the secret.
func holdsSecret(req *authv3.CheckRequest) bool {
	http := req.GetAttributes().GetRequest().GetHttp()
	all := http.GetPath()
	if _, query, ok := strings.Cut(all, "?"); ok {
		for parameter := range strings.SplitSeq(query, "&") {
			decoded, _ := url.QueryUnescape(parameter)
			all += "\n" + decoded
		}
	}
	for _, value := range http.GetHeaders() {
		all += "\n" + value
	}
	for _, h := range http.GetHeaderMap().GetHeaders() {
		all += "\n" + h.GetValue() + "\n" + string(h.GetRawValue())
	}
	return strings.Contains(all, fuzzSecret)
}

// FuzzWireRead compares how this package and the generated code read a request. The generated code reads it
// without unused fields and bytes that are not UTF-8.
func FuzzWireRead(f *testing.F) {
	addRequests(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		readAlike(t, b)
	})
}

// canonical returns a with its headers in an order that does not depend on a map. Headers with the same name
// keep their order.
func (a *attributes) canonical() attributes {
	c := *a
	fold := func(s string) string { // of ASCII only, unlike strings.ToLower
		b := []byte(s)
		for i := range b {
			if 'A' <= b[i] && b[i] <= 'Z' {
				b[i] += 'a' - 'A'
			}
		}
		return string(b)
	}
	byName := func(f, g field) int { return strings.Compare(fold(f.Name), fold(g.Name)) }
	c.Headers = append([]field{}, a.Headers...)
	c.Extensions = append([]field{}, a.Extensions...)
	slices.SortStableFunc(c.Headers, byName)
	slices.SortFunc(c.Extensions, func(f, g field) int { return strings.Compare(f.Name, g.Name) })
	return c
}

// FuzzWireWrite compares both ways of writing a reply.
func FuzzWireWrite(f *testing.F) {
	addRequests(f)
	servers := []*Server{
		server(f, check.Config{Authorizer: authorizer(fuzzKey()), Routes: fuzzRoutes()}),
		server(f, check.Config{Authorizer: authorizer(fuzzKey()), Routes: fuzzRoutes(), LimitHeaders: ratelimit.IETF}),
		server(f, check.Config{Authorizer: authorizer(fuzzKey()), Routes: fuzzRoutes(), DryRun: true}),
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		req := new(authv3.CheckRequest)
		if proto.Unmarshal(b, req) != nil {
			return
		}
		for _, s := range servers {
			c := new(call)
			c.read(req)
			s.check(t.Context(), c)
			want := response(&c.outcome)
			got := new(authv3.CheckResponse)
			if err := proto.Unmarshal(appendResponse(nil, &c.outcome), got); err != nil {
				t.Fatal(err)
			}
			if !sameReply(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		}
	})
}
