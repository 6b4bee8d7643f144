package e2e_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"extauthz/e2e/harness"
)

// A secret in the query is cut out of the path, and no other byte of the path changes.
func TestQueryKeepsItsBytes(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: "key_sources: [{query: api_key}]"})
	front := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr}.start(t).Addr("front")
	for path, want := range map[string]string{
		"/x?b=2&flag&a=1&a=0&api_key=acme_open&sig=x%2By": "/x?b=2&flag&a=1&a=0&sig=x%2By",
		"/x?api_key=acme_open":                            "/x",
		"/x%2Fy?api_key=acme_open&z=%7e&&w=;":             "/x%2Fy?z=%7e&&w=;",
		"/x?b=1&api%5Fkey=acme_open":                      "/x?b=1",
	} {
		if saw := send(t, front, call{path: path}).upstreamSaw(t); saw.Path != want {
			t.Errorf("%s: the upstream saw %s, want %s", path, saw.Path, want)
		}
	}
}

// If Envoy's rules do not allow :path, set_path: false removes the secret from the query anyway, and from
// headers, which the rules allow here.
func TestMutationRules(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, rules, config string
		secret              bool // the upstream sees the secret
	}{
		{"set_path, no rules", "", "", false},
		{"set_path, validate_mutations", "validate_mutations: true", "", false},
		{"set_path: false, no rules", "", "set_path: false", false},
		{"set_path: false, no system headers", "decoder_header_mutation_rules: {disallow_system: true}", "set_path: false", false},
		{"set_path: false, nothing may change", "decoder_header_mutation_rules: {disallow_all: true}", "set_path: false", false},
		// Documented: these two settings contradict each other.
		{"set_path, no system headers", "decoder_header_mutation_rules: {disallow_system: true}", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			upstream := harness.StartUpstream(t)
			server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: "key_sources: [{query: api_key}]\n" + tt.config})
			front := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, Options: tt.rules}.start(t).Addr("front")
			saw := send(t, front, call{path: "/x?api_key=acme_open&b=1"}).upstreamSaw(t)
			if strings.Contains(saw.Path, "acme_open") != tt.secret || !strings.Contains(saw.Path, "b=1") {
				t.Errorf("the upstream saw %s", saw.Path)
			}
		})
	}
}

// Two Cookie lines are read in the same way over HTTP/1.1 and HTTP/2, and the other cookie is kept.
func TestTwoCookieLines(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: "key_sources: [{cookie: api_key}]"})
	for _, raw := range []bool{false, true} {
		front := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, RawHeaders: raw}.start(t).Addr("front")
		for _, http2 := range []bool{false, true} {
			for _, tt := range []struct {
				lines []string
				want  string // the cookies that the upstream sees
			}{
				{[]string{"a=1", "api_key=acme_open"}, "a=1"},
				{[]string{"api_key=acme_open", "a=1"}, "a=1"},
				{[]string{"a=1; b=2", "c=3; api_key=acme_open; d=4"}, "a=1; b=2; c=3; d=4"},
				{[]string{"api_key=acme_open; a=1"}, "a=1"},
			} {
				saw := send(t, front, call{header: http.Header{"Cookie": tt.lines}, http2: http2}).upstreamSaw(t)
				if got := strings.Join(saw.Headers["cookie"], "; "); got != tt.want {
					t.Errorf("%q, HTTP/2 %v, raw %v: the upstream saw %q", tt.lines, http2, raw, got)
				}
			}
			repeated := call{header: http.Header{"Cookie": {"api_key=acme_open", "api_key=acme_open"}}, http2: http2}
			send(t, front, repeated).wantRefusal(t, 401, "NOT_FOUND", "")
		}
	}
}

// A value without a source's prefix is forwarded unchanged.
func TestPrefix(t *testing.T) {
	t.Parallel()
	const jwt = "Bearer eyJhbGciOi.J9.x"
	for _, forward := range []string{"", "forward_key: true\n"} {
		upstream := harness.StartUpstream(t)
		server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: forward + "key_sources: [{header: authorization, scheme: Bearer, prefix: acme_}, {header: x-api-key}]"})
		front := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr}.start(t).Addr("front")
		saw := send(t, front, call{header: headers("Authorization", jwt, "X-Api-Key", string(open))}).upstreamSaw(t)
		if got := saw.Headers["authorization"]; !slices.Equal(got, []string{jwt}) {
			t.Errorf("%s: the upstream saw authorization: %q", forward, got)
		}
		if got := saw.Headers["x-api-key"]; (len(got) > 0) != (forward != "") {
			t.Errorf("%s: the upstream saw x-api-key: %q", forward, got)
		}
		send(t, front, call{header: headers("Authorization", jwt)}).wantRefusal(t, 401, "MISSING_KEY", "")
		saw = send(t, front, call{header: headers("Authorization", "Bearer "+string(open))}).upstreamSaw(t)
		if got := saw.Headers["authorization"]; (len(got) > 0) != (forward != "") {
			t.Errorf("%s: the upstream saw authorization: %q", forward, got)
		}
	}
}

// An internal redirect is checked again, after the first check's changes to the request.
func TestInternalRedirect(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/old" {
			http.Redirect(w, r, "http://"+r.Host+"/new", http.StatusFound)
			return
		}
		_, _ = w.Write([]byte("arrived"))
	}))
	t.Cleanup(upstream.Close)
	for config, status := range map[string]int{"": 401, "forward_key: true": 200} {
		server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: config})
		g := gateway{Servers: []string{server.Addr}, Upstream: upstream.Listener.Addr().String(), Route: ", internal_redirect_policy: {max_internal_redirects: 1}"}
		front := g.start(t).Addr("front")
		if r := send(t, front, call{path: "/old", header: headers("X-Api-Key", string(open))}); r.status != status {
			t.Errorf("%q: got %d %s, want %d", config, r.status, r.body, status)
		}
	}
}
