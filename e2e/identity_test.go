package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"extauthz/e2e/harness"
)

// stripEarly removes callers' identity headers before Envoy selects a route.
const stripEarly = `early_header_mutation_extensions: [{name: strip, typed_config: {"@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation, mutations: [{remove_on_match: {key_matcher: {safe_regex: {regex: "x[-_]extauthz[-_].*"}}}}]}}]`

// byIdentity is a route for requests with an identity header.
const byIdentity = `- {match: {prefix: /, headers: [{name: x-extauthz-key-id, present_match: true}]}, route: {cluster: upstream, prefix_rewrite: /trusted/}}`

// exempt is a route without a check.
const exempt = `- {match: {path_separated_prefix: /public}, route: {cluster: upstream}, typed_per_filter_config: {envoy.filters.http.ext_authz: {"@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, disabled: true}}}`

// With early header mutation, Envoy removes a forged identity on routes without a check too.
func TestMadeUpIdentityIsStrippedEarly(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys})
	made := func() call {
		return call{header: headers("X-Extauthz-Key-Id", "key_admin", "x-extauthz-client-address", "192.0.2.1", "X-Extauthz-Role", "admin", "x_extauthz_key_id", "key_admin")}
	}
	with := gateway{
		Servers: []string{server.Addr}, Upstream: upstream.Addr, FailureModeAllow: true,
		Connections: stripEarly, Routes: exempt + "\n" + byIdentity,
	}
	without := with
	without.Connections = ""
	stripped, bare := with.start(t).Addr("front"), without.start(t).Addr("front")

	identity := func(front string, c call) string {
		t.Helper()
		saw := send(t, front, c).upstreamSaw(t)
		var names []string
		for name := range saw.Headers {
			if strings.Contains(name, "extauthz") {
				names = append(names, name+"="+strings.Join(saw.Headers[name], ","))
			}
		}
		slices.Sort(names)
		return saw.Path + " " + strings.Join(names, " ")
	}
	public := made()
	public.path = "/public/logo"
	valid := made()
	valid.header["X-Api-Key"] = []string{string(open)}
	const all = "x-extauthz-client-address=192.0.2.1 x-extauthz-key-id=key_admin x-extauthz-role=admin x_extauthz_key_id=key_admin"
	check := func(what, front string, c call, want string) {
		t.Helper()
		if got := identity(front, c); got != want {
			t.Errorf("%s: the upstream saw %q, want %q", what, got, want)
		}
	}
	check("exempt route", stripped, public, "/public/logo ")
	check("exempt route, not stripped", bare, public, "/public/logo "+all)
	const found = "x-extauthz-client-address=127.0.0.1 x-extauthz-key-id=key_open"
	check("valid key", stripped, valid, "/documents "+found)
	check("valid key, not stripped: the route was chosen before", bare, valid, "/trusted/documents "+found)
	upstream.Forget()
	server.Kill()
	check("no extauthz", stripped, made(), "/documents ")
	check("no extauthz, not stripped", bare, made(), "/trusted/documents "+all)
}

// clear_route_cache selects the route again after the check, by the headers that the check set: the
// requirements of the new route were not checked.
func TestClearRouteCache(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys})
	strict := strings.TrimSuffix(byIdentity, "}") + `, typed_per_filter_config: {envoy.filters.http.ext_authz: {"@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, check_settings: {context_extensions: {permissions: admin}}}}}`
	for options, want := range map[string]string{"": "/documents", "clear_route_cache: true": "/trusted/documents"} {
		front := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, Connections: stripEarly, Routes: strict, Options: options}.start(t).Addr("front")
		if saw := send(t, front, call{header: headers("X-Api-Key", string(open))}).upstreamSaw(t); saw.Path != want {
			t.Errorf("%q: the upstream saw %s, want %s", options, saw.Path, want)
		}
	}
}

// mutationRules allow only the changes that extauthz makes to a request.
const mutationRules = `decoder_header_mutation_rules: {disallow_all: true, disallow_is_error: true, allow_expression: {regex: "x[-_]extauthz[-_].*|x-api-key|authorization|cookie|:path"}}`

// Envoy ignores changes that its rules disallow: the secret and a forged identity would be forwarded to
// the upstream. These rules work.
func TestHeaderMutationRules(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: allSources})
	for options, want := range map[string]string{
		"":                                  "key_listed",
		mutationRules:                       "key_listed",
		"decoder_header_mutation_rules: {}": "key_listed",
		"decoder_header_mutation_rules: {disallow_all: true}":                          "leaks",
		`decoder_header_mutation_rules: {disallow_expression: {regex: "x-api-key"}}`:   "leaks",
		"decoder_header_mutation_rules: {disallow_all: true, disallow_is_error: true}": "500",
	} {
		front := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, Options: options}.start(t).Addr("front")
		for where, c := range map[string]call{
			"header": {header: headers("X-Api-Key", string(listed))},
			"bearer": {header: headers("Authorization", "Bearer "+string(listed))},
			"cookie": {header: headers("Cookie", "a=1; api_key="+string(listed)+"; b=2")},
			"query":  {path: "/documents?b=2&api_key=" + string(listed) + "&a=1"},
		} {
			c.header = c.header.Clone()
			if c.header == nil {
				c.header = headers()
			}
			c.header["X-Extauthz-Key-Id"] = []string{"key_admin"}
			r := send(t, front, c)
			if want == "500" {
				if r.status != 500 {
					t.Errorf("%s, %s: %d %s, want 500", options, where, r.status, r.body)
				}
				continue
			}
			saw := r.upstreamSaw(t)
			leaks := strings.Contains(fmt.Sprint(saw), string(listed)) || !slices.Equal(saw.Headers["x-extauthz-key-id"], []string{"key_listed"})
			if where == "header" && leaks != (want == "leaks") || where != "header" && want != "leaks" && leaks {
				t.Errorf("%s, %s: the upstream saw %+v, want %s", options, where, saw, want)
			}
			if where == "query" && want != "leaks" && saw.Path != "/documents?b=2&a=1" {
				t.Errorf("%s: the upstream saw the path %s", options, saw.Path)
			}
		}
	}
}

// Envoy's default access log contains the secret in the query of a refused request; with %PATH(NQ)% it
// does not.
func TestSecretInTheAccessLog(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: allSources})
	for format, leaks := range map[string]bool{"%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%": true, "%PATH(NQ)%": false} {
		envoy := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, AccessLog: "end " + format}.start(t)
		send(t, envoy.Addr("front"), call{path: "/q?api_key=" + string(disabled)}).wantRefusal(t, 401, "DISABLED", "key_disabled")
		if line := accessLog(t, envoy, "end"); !strings.Contains(line, "/q") || strings.Contains(line, string(disabled)) != leaks {
			t.Errorf("%s: the line is %q", format, line)
		}
	}
}
