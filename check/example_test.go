package check_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"time"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/keystore"
)

// A store with one key, which may be used from 192.0.2.0/24.
type store struct{ key *keystore.Key }

func (s store) Lookup(_ context.Context, h keystore.Hash) (*keystore.Key, error) {
	if h != s.key.Hash {
		return nil, keystore.ErrNotFound
	}
	return s.key, nil
}

// guard is a front end for net/http: it fills the attributes, and carries out the outcome.
func guard(c *check.Checker, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, _, _ := net.SplitHostPort(r.RemoteAddr)
		a := check.Attributes{Peer: peer, Method: r.Method, Path: r.RequestURI, Host: r.Host}
		for name, values := range r.Header {
			for _, value := range values {
				a.Headers = append(a.Headers, check.Field{Name: name, Value: value})
			}
		}
		var o check.Outcome
		c.Check(r.Context(), &a, &o)
		for _, h := range o.ResponseHeaders {
			w.Header().Set(h.Name, h.Value)
		}
		if !o.Allowed() {
			w.WriteHeader(o.Status())
			_, _ = w.Write(o.AppendBody(nil))
			return
		}
		if o.Path != "" {
			r.URL, _ = url.ParseRequestURI(o.Path)
		}
		for _, h := range o.SetHeaders {
			r.Header.Set(h.Name, h.Value)
		}
		for _, name := range o.RemoveHeaders {
			r.Header.Del(name)
		}
		next.ServeHTTP(w, r)
	})
}

func ExampleChecker() {
	secret := keystore.Secret("sk_7Hq2")
	key := &keystore.Key{
		ID: "key_acme", Hash: secret.Hash(), Enabled: true,
		Whitelist: keystore.NewWhitelist([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}),
	}
	checker, err := check.New(check.Config{
		Authorizer: authz.New(store{key}, time.Now),
		KeySources: []check.KeySource{check.Header("x-api-key")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := guard(checker, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s, from %s", r.Header.Get("x-extauthz-key-id"), r.Header.Get("x-extauthz-client-address"))
	}))
	for _, peer := range []string{"192.0.2.7:40000", "198.51.100.9:40000"} {
		r := httptest.NewRequest(http.MethodGet, "/documents", http.NoBody)
		r.RemoteAddr = peer
		r.Header.Set("x-api-key", string(secret))
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Body)
	}
	// Output:
	// 200 hello key_acme, from 192.0.2.7
	// 403 {"meta":{"requestId":""},"data":{"valid":false,"code":"FORBIDDEN","keyId":"key_acme"}}
}

func ExampleTrustedProxies() {
	source := check.TrustedProxies([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, check.WithoutPort)
	request := check.Attributes{
		Peer:    "10.0.0.1",
		Headers: []check.Field{{Name: "x-forwarded-for", Value: "192.0.2.7, 203.0.113.9, 10.0.0.2"}},
	}
	fmt.Println(source.Find(&request))
	// Output: 203.0.113.9 x-forwarded-for <nil>
}
