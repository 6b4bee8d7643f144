package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/examples/upstream/echo"
	"extauthz/keystore"
	"extauthz/polltest"
)

// A parityCase is one request that both front ends must answer in the same way.
type parityCase struct {
	name string
	call call
	want int // the status
}

// A parityGroup holds cases with the same configuration.
type parityGroup struct {
	keys, config string
	gateway      gateway    // without Servers, Module and Upstream
	fill         func()     // resets and fills the store; may be nil
	cut          func(bool) // cuts or restores the connection to the store; may be nil
	cases        []parityCase
}

const unlisted keystore.Secret = "acme_unlisted"

// withKey is a call with the secret in x-api-key, and additional headers.
func withKey(secret keystore.Secret, more ...string) call {
	return call{header: headers(append([]string{"X-Api-Key", string(secret)}, more...)...)}
}

func (c call) to(path string) call      { c.path = path; return c }
func (c call) by(method string) call    { c.method = method; return c }
func (c call) peer(address string) call { c.from = address; return c }
func (c call) overHTTP2() call          { c.http2 = true; return c }

var parityGroups = map[string]func(t *testing.T) parityGroup{
	"secrets": func(*testing.T) parityGroup {
		bearer := func(v string) call { return call{header: headers("Authorization", v)} }
		cookie := func(v ...string) call { return call{header: http.Header{"Cookie": v}} }
		many := withKey(open)
		for i := range 90 {
			many.header.Set(fmt.Sprintf("X-Many-%d", i), strings.Repeat("v", i))
		}
		return parityGroup{keys: keys, config: allSources, cases: []parityCase{
			{"none", call{}, 401},
			{"header", withKey(open), 200},
			{"header over HTTP/2", withKey(open).overHTTP2(), 200},
			{"empty", withKey(""), 401},
			{"unknown", withKey("acme_unknown"), 401},
			{"too long", withKey(keystore.Secret(strings.Repeat("x", 600))), 401},
			{"repeated", call{header: headers("X-Api-Key", string(open), "X-Api-Key", string(open))}, 401},
			{"repeated over HTTP/2", call{header: headers("X-Api-Key", string(open), "X-Api-Key", string(open))}.overHTTP2(), 401},
			{"a comma", withKey(open + ",x"), 401},
			{"not UTF-8", withKey("acme_\xffopen"), 401},
			{"bearer", bearer("Bearer acme_open"), 200},
			{"bearer in capitals", bearer("BEARER   acme_open"), 200},
			{"another scheme", bearer("Basic acme_open"), 401},
			{"header before bearer", withKey(open, "Authorization", "Bearer acme_unknown"), 200},
			{"query", call{path: "/x?b=2&flag&a=1&a=0&api_key=acme_open&sig=x%2By"}, 200},
			{"query, escaped", call{path: "/x?api%5Fkey=acme_open"}, 200},
			{"query, twice", call{path: "/x?api_key=acme_open&api_key=acme_open"}, 401},
			{"long path", call{path: "/" + strings.Repeat("long/", 1500) + "?api_key=acme_open&z=1"}, 200},
			{"a path that is not UTF-8", withKey(open).to("/a%ff?x=%ff"), 200},
			{"cookie", cookie("a=1; api_key=acme_open; b=2"), 200},
			{"cookie alone", cookie("api_key=acme_open"), 200},
			{"two cookie lines", cookie("a=1", "api_key=acme_open; b=2"), 200},
			{"two cookie lines over HTTP/2", cookie("a=1", "api_key=acme_open; b=2").overHTTP2(), 200},
			{"many headers", many, 200},
			{"many headers over HTTP/2", many.overHTTP2(), 200},
			{"a made-up identity", withKey(open, "X-Extauthz-Key-Id", "key_admin", "x_extauthz_role", "admin", "X-Extauthz-Client-Address", "10.0.0.1"), 200},
			{"a request id", withKey("acme_unknown", "X-Request-Id", `one"two`), 401},
			{"POST", withKey(open).by(http.MethodPost), 200},
			{"HEAD, refused", withKey("acme_unknown").by(http.MethodHead), 401},
			{"OPTIONS", call{}.by(http.MethodOptions), 401},
			{"headers of hops", withKey(open, "Connection", "x-hop", "X-Hop", "1", "Te", "trailers"), 200},
		}}
	},
	"codes": func(*testing.T) parityGroup {
		limited := record("key_limited", "acme_limited", "ratelimits: [{name: requests, limit: 1, duration: 1h}]")
		report := record("key_report", unlisted, "ip_whitelist: [192.0.2.7]", "ip_whitelist_mode: report")
		grpc := func(c call) call { c.header.Set("Content-Type", "application/grpc+proto"); return c }
		return parityGroup{
			keys:   keys + limited + report + record("key_reader", "acme_reader", "permissions: [documents.read]"),
			config: "routes: [{path_prefix: /admin, permissions: admin}, {path_prefix: /read, permissions: documents.read}]\nstatuses: {DISABLED: 410}\n",
			cases: []parityCase{
				{"VALID", withKey(listed), 200},
				{"DISABLED, with a status of its own", withKey(disabled), 410},
				{"EXPIRED", withKey(expired), 401},
				{"FORBIDDEN", withKey(elsewhere), 403},
				{"FORBIDDEN by the peer", withKey(listed).peer("127.0.0.2"), 403},
				{"a list that only reports", withKey(unlisted), 200},
				{"INSUFFICIENT_PERMISSIONS", withKey(open).to("/admin/x"), 403},
				{"a path that may be read in two ways", withKey(open).to("/x/..%2Fadmin"), 403},
				{"a permission", withKey("acme_reader").to("/read"), 200},
				{"within the limit", withKey("acme_limited"), 200},
				{"RATE_LIMITED", withKey("acme_limited"), 429},
				{"gRPC, MISSING_KEY", grpc(call{header: http.Header{}}).overHTTP2(), 200},
				{"gRPC, NOT_FOUND", grpc(withKey("acme_unknown")).overHTTP2(), 200},
				{"gRPC, FORBIDDEN", grpc(withKey(elsewhere)).overHTTP2(), 200},
				{"gRPC, DISABLED, with a status of its own", grpc(withKey(disabled)).overHTTP2(), 200},
				{"gRPC, RATE_LIMITED", grpc(withKey("acme_limited")).overHTTP2(), 200},
			},
		}
	},
	"forwarded by one proxy": func(t *testing.T) parityGroup {
		return forwardedParity("client_address: {from: x_forwarded_for, trusted_proxies: [127.0.0.1, "+own(t)+"]}", map[string]int{
			"192.0.2.7": 200, "10.0.0.1, nonsense, 192.0.2.7": 200, "192.0.2.7, 203.0.113.9": 403, "192.0.2.7:4711": 403,
			"192.0.2.7, ": 403, "": 403, "::ffff:192.0.2.7": 200, "192.0.2.7|203.0.113.9": 403, "203.0.113.9|192.0.2.7": 200, "\xff": 403,
		})
	},
	"forwarded by hops": func(*testing.T) parityGroup {
		return forwardedParity("client_address: {from: x_forwarded_for, trusted_hops: 1}", map[string]int{
			"192.0.2.7": 200, "192.0.2.7, 203.0.113.9": 403, "203.0.113.9, 192.0.2.7": 200, "": 403,
		})
	},
	"a header": func(*testing.T) parityGroup {
		c := withKey
		return parityGroup{keys: "keys:\n" + record("key_client", "acme_client", "ip_whitelist: [192.0.2.7]"), config: "client_address: {from: header, header: x-client-ip}\nforward_key: true\n", cases: []parityCase{
			{"set", c("acme_client", "X-Client-Ip", "192.0.2.7"), 200},
			{"missing", c("acme_client"), 403},
			{"repeated", c("acme_client", "X-Client-Ip", "192.0.2.7", "X-Client-Ip", "192.0.2.7"), 403},
			{"a list", c("acme_client", "X-Client-Ip", "192.0.2.7, 192.0.2.7"), 403},
		}}
	},
	"what routes require": func(*testing.T) parityGroup {
		return parityGroup{
			keys:    "keys:\n" + record("key_reader", "acme_reader", "permissions: [documents.read]", "ratelimits: [{name: heavy, limit: 10, duration: 1h, auto_apply: false}]") + record("key_open", open),
			config:  "key_sources: [{header: x-api-key}]\n",
			gateway: gateway{Extensions: `{permissions: documents.read, ratelimits: heavy=3}`},
			cases: []parityCase{
				{"permitted", withKey("acme_reader"), 200},
				{"not permitted", withKey(open), 403},
				{"again", withKey("acme_reader"), 200},
				{"again", withKey("acme_reader"), 200},
				{"over the limit", withKey("acme_reader"), 429},
			},
		}
	},
	"a dry run": func(*testing.T) parityGroup {
		return parityGroup{keys: keys, config: "dry_run: true\n", cases: []parityCase{
			{"valid", withKey(listed), 200},
			{"missing", call{}, 200},
			{"forbidden", withKey(elsewhere), 200},
			{"a made-up identity", call{header: headers("X-Extauthz-Key-Id", "key_admin")}, 200},
		}}
	},
	"redis":                  func(t *testing.T) parityGroup { return storeParity(t, "redis") },
	"redis, out of reach":    func(t *testing.T) parityGroup { return unreachableParity(t, "redis") },
	"postgres":               func(t *testing.T) parityGroup { return storeParity(t, "postgres") },
	"postgres, out of reach": func(t *testing.T) parityGroup { return unreachableParity(t, "postgres") },
}

// storeParity asks a key store across the network.
func storeParity(t *testing.T, kind string) parityGroup {
	g, _ := remoteParity(t, kind)
	g.cases = []parityCase{
		{"not yet known", withKey("acme_remote"), 200},
		{"known", withKey("acme_remote"), 200},
		{"not yet known, over HTTP/2", withKey("acme_listed_remote").overHTTP2(), 403},
		{"another address", withKey("acme_near").peer("127.0.0.2"), 403},
		{"its address", withKey("acme_near"), 200},
		{"unknown", withKey("acme_unknown"), 401},
		{"unknown again", withKey("acme_unknown"), 401},
		{"disabled", withKey("acme_disabled"), 401},
		{"expired", withKey("acme_expired"), 401},
		{"a permission", withKey("acme_reader").to("/read"), 200},
		{"without the permission", withKey("acme_other").to("/read"), 403},
		{"within the limit", withKey("acme_limited"), 200},
		{"over the limit", withKey("acme_limited"), 429},
		{"a list that only reports", withKey("acme_report"), 200},
		{"POST, not yet known", withKey("acme_other").by(http.MethodPost), 200},
		{"gRPC, not yet known", withKey("acme_grpc", "Content-Type", "application/grpc").overHTTP2(), 200},
	}
	return g
}

// unreachableParity cuts off the key store before anything is known.
func unreachableParity(t *testing.T, kind string) parityGroup {
	g, l := remoteParity(t, kind)
	g.cut = l.set
	g.cases = []parityCase{
		{"UNAVAILABLE", withKey("acme_remote"), 503},
		{"UNAVAILABLE over HTTP/2", withKey("acme_remote").overHTTP2(), 503},
		{"gRPC, UNAVAILABLE", withKey("acme_remote", "Content-Type", "application/grpc").overHTTP2(), 200},
		{"MISSING_KEY", call{}, 401},
	}
	return g
}

// remoteParity has keys in a database, behind a link. With Redis, rate limits are there, too.
func remoteParity(t *testing.T, kind string) (parityGroup, *link) {
	db := databases[kind](t)
	l := newLink(t, db.addr)
	limits := ""
	if kind == "redis" {
		limits = "ratelimit: {store: redis, timeout: 1s, url: \"redis://" + l.addr() + "\"}\n"
	}
	const all = "cache: {lookup_timeout: 1s}\nroutes: [{path_prefix: /read, permissions: documents.read}]\n"
	return parityGroup{
		fill: func() { db.fill(t, remoteKeys) }, config: "store: " + db.store(l.addr()) + "\n" + limits + all,
	}, l
}

var remoteKeys = "keys:\n" +
	record("key_remote", "acme_remote", "external_id: acme") +
	record("key_other", "acme_other") +
	record("key_grpc", "acme_grpc", "ip_whitelist: [192.0.2.7]") +
	record("key_listed", "acme_listed_remote", `ip_whitelist: [192.0.2.7, "2001:db8::/32"]`) +
	record("key_near", "acme_near", "ip_whitelist: [127.0.0.1]") +
	record("key_disabled", "acme_disabled", "enabled: false") +
	record("key_expired", "acme_expired", "expires: 2020-01-01T00:00:00Z") +
	record("key_reader", "acme_reader", "permissions: [documents.read]") +
	record("key_report", "acme_report", "ip_whitelist: [192.0.2.7]", "ip_whitelist_mode: report") +
	record("key_limited", "acme_limited", "ratelimits: [{name: requests, limit: 1, duration: 1h}]") +
	record("key_busy", "acme_busy", "ratelimits: [{name: requests, limit: 1000000, duration: 1s}]")

// forwardedParity sends lists of addresses, whose lines are separated by |, and one of them from another peer.
func forwardedParity(config string, rows map[string]int) parityGroup {
	g := parityGroup{keys: "keys:\n" + record("key_client", "acme_client", "ip_whitelist: [192.0.2.7]"), config: config, gateway: gateway{Edge: true}}
	for list, status := range rows {
		c := withKey("acme_client")
		if list != "" {
			c.header["X-Forwarded-For"] = strings.Split(list, "|")
		}
		g.cases = append(g.cases, parityCase{list, c, status})
	}
	return g
}

// The module answers as the sidecar does, with headers in either encoding: the upstream, the caller and
// the access log see no difference.
func TestParity(t *testing.T) {
	t.Parallel()
	for name, group := range parityGroups {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := group(t)
			results := map[string][]outcome{}
			for _, way := range []string{"module", "sidecar", "sidecar, raw headers"} {
				results[way] = g.run(t, way)
			}
			for i, c := range g.cases {
				of := results["module"][i]
				if of.Status != c.want {
					t.Errorf("%s: the module answers %d, want %d: %+v", c.name, of.Status, c.want, of)
				}
				for _, way := range []string{"sidecar", "sidecar, raw headers"} {
					if !reflect.DeepEqual(of, results[way][i]) {
						t.Errorf("%s: the module and the %s differ:\n%s\n%s", c.name, way, asJSON(of), asJSON(results[way][i]))
					}
				}
			}
		})
	}
}

// An outcome is everything that can be observed of a request, except for random values.
type outcome struct {
	Status   int
	Header   http.Header
	Body     string
	Upstream *echo.Request // nil if it was not reached
	Metadata map[string]any
}

// run sends every case and returns the outcomes.
func (g parityGroup) run(t *testing.T, way string) []outcome {
	upstream := harness.StartUpstream(t)
	gw := g.gateway
	gw.Upstream = upstream.Addr
	gw.AccessLog = "%DYNAMIC_METADATA(envoy.filters.http.ext_authz)%"
	gw.RawHeaders = way == "sidecar, raw headers"
	if way == "module" {
		gw.Module = newModule(t, g.keys, g.config).config()
	} else {
		gw.Servers = []string{harness.StartExtauthz(t, harness.Settings{Keys: g.keys, Config: g.config}).Addr}
	}
	if g.fill != nil {
		g.fill()
	}
	envoy := gw.start(t)
	front := envoy.Addr("front")
	outcomes := make([]outcome, len(g.cases))
	if g.cut != nil {
		g.cut(true)
		defer g.cut(false)
	}
	for i, c := range g.cases {
		upstream.Forget()
		c.call.header = c.call.header.Clone()
		r := send(t, front, c.call)
		o := outcome{Status: r.status, Header: r.header, Body: withoutIDs(r.body, front)}
		for _, name := range []string{"Date", "X-Envoy-Upstream-Service-Time"} {
			o.Header.Del(name)
		}
		for _, name := range []string{"X-Ratelimit-Reset", "Retry-After"} { // in seconds from now
			if _, err := strconv.Atoi(o.Header.Get(name)); err == nil {
				o.Header.Set(name, "N")
			}
		}
		if seen := upstream.Seen(); len(seen) == 1 {
			o.Upstream = &seen[0]
			o.Upstream.Host = withoutIDs(o.Upstream.Host, front)
			delete(o.Upstream.Headers, "x-request-id")
			o.Body = "" // the body repeats the request
			o.Header.Del("Content-Length")
		}
		outcomes[i] = o
	}
	for i, line := range accessLines(t, envoy, len(g.cases)) {
		if err := json.Unmarshal([]byte(line), &outcomes[i].Metadata); err != nil {
			t.Errorf("%v in the access log's %s", err, line)
		}
		// This is the filter's own duration, which the module does not measure.
		if _, ok := outcomes[i].Metadata["ext_authz_duration"]; ok && way == "module" {
			t.Errorf("the module says how long an ext_authz filter took: %s", line)
		}
		delete(outcomes[i].Metadata, "ext_authz_duration")
	}
	return outcomes
}

var requestID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

func withoutIDs(s, front string) string {
	return strings.ReplaceAll(requestID.ReplaceAllString(s, "ID"), front, "FRONT")
}

// accessLines returns the lines of Envoy's access log about its requests, in order.
func accessLines(t *testing.T, envoy *harness.EnvoyProcess, n int) (lines []string) {
	polltest.NoError(t, func() error {
		lines = nil
		for line := range strings.Lines(envoy.Log()) {
			if rest, ok := strings.CutPrefix(line, "ACCESS "); ok {
				_, rest, _ = strings.Cut(rest, " ")
				lines = append(lines, rest)
			}
		}
		if len(lines) != n {
			return fmt.Errorf("%d lines in the access log, want %d", len(lines), n)
		}
		return nil
	})
	return lines
}

func asJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
