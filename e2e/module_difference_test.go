package e2e_test

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/polltest"
)

// What the module does otherwise than the sidecar, as docs/inside-envoy.md lists it.

// The peer is the connection's other end, also where the PROXY protocol names another: the balancer. Envoy
// can write the client that the balancer names into a header.
func TestModuleBehindTheProxyProtocol(t *testing.T) {
	t.Parallel()
	keys := "keys:\n" + record("key_client", "acme_client", "ip_whitelist: [192.0.2.7]") + record("key_balancer", "acme_balancer", "ip_whitelist: [127.0.0.1]")
	start := func(config, filters string) string {
		g := gateway{Upstream: harness.StartUpstream(t).Addr, ProxyProtocol: true, Edge: true, Filters: filters}
		g.Module = newModule(t, keys, config).config()
		return g.start(t).Addr("front")
	}
	client := func(secret string) call {
		return call{header: headers("X-Api-Key", secret, "X-Client-Ip", "127.0.0.1", "X-Forwarded-For", "127.0.0.1"), proxy: "192.0.2.7"}
	}
	peer := start("", "")
	send(t, peer, client("acme_client")).wantRefusal(t, 403, "FORBIDDEN", "key_client")
	send(t, peer, client("acme_balancer")).upstreamSaw(t)

	const write = `- {name: client, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation, mutations: {request_mutations: [{append: {header: {key: x-client-ip, value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}]}}}`
	header := start("client_address: {from: header, header: x-client-ip}\n", write)
	send(t, header, client("acme_client")).upstreamSaw(t)
	send(t, header, client("acme_balancer")).wantRefusal(t, 403, "FORBIDDEN", "key_balancer")
}

// UNAVAILABLE always refuses: a module has no failure_mode_allow.
func TestModuleHasNoFailureMode(t *testing.T) {
	t.Parallel()
	m := newModule(t, "", "store: {redis: {url: \"redis://127.0.0.1:1\"}}\n")
	envoy := gateway{Module: m.config(), Upstream: harness.StartUpstream(t).Addr, FailureModeAllow: true}.start(t)
	send(t, envoy.Addr("front"), withKey(open)).wantRefusal(t, 503, "UNAVAILABLE", "")
}

// Of the configurations of a virtual host and of a route, the route's alone counts. The sidecar merges them.
func TestModuleTakesTheMostSpecificRoute(t *testing.T) {
	t.Parallel()
	m := newModule(t, keys+record("key_reader", "acme_reader", "permissions: [documents.read]"), "")
	g := gateway{Module: m.config(), Upstream: harness.StartUpstream(t).Addr, Extensions: "{permissions: documents.read}"}
	g.Routes = `- {match: {prefix: /open}, route: {cluster: upstream}, typed_per_filter_config: {envoy.filters.http.ext_authz: {"@type": type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilterPerRoute, dynamic_module_config: {name: extauthz, do_not_close: true}, filter_name: extauthz}}}
- {match: {prefix: /off}, route: {cluster: upstream}, typed_per_filter_config: {envoy.filters.http.ext_authz: {"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}}}`
	front := g.start(t).Addr("front")
	send(t, front, withKey(open)).wantRefusal(t, 403, "INSUFFICIENT_PERMISSIONS", "key_open")
	send(t, front, withKey("acme_reader")).upstreamSaw(t)
	send(t, front, withKey(open).to("/open")).upstreamSaw(t)
	send(t, front, call{path: "/off"}).upstreamSaw(t)
}

// The admin listener, usage and the decision log work inside Envoy, and what is left is written before
// Envoy ends.
func TestModuleServesAndRecords(t *testing.T) {
	t.Parallel()
	addr := harness.FreeAddr(t)
	config := "admin: {listen: " + addr + "}\nusage: {record: true, path: usage.db, flush: 1h}\ndecision_log: {path: decisions.log, allowed: 1}\n"
	m := newModule(t, keys, config)
	envoy := gateway{Module: m.config(), Upstream: harness.StartUpstream(t).Addr}.start(t)
	front := envoy.Addr("front")
	send(t, front, withKey(listed)).upstreamSaw(t)
	send(t, front, withKey(elsewhere)).wantRefusal(t, 403, "FORBIDDEN", "key_elsewhere")
	get := func(path string) string {
		response, err := http.Get("http://" + addr + path)
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		var b strings.Builder
		_ = response.Write(&b)
		return b.String()
	}
	polltest.Until(t, "the admin listener says that it is ready", func() bool { return strings.Contains(get("/readyz"), "200 OK") })
	if metrics := get("/metrics"); !strings.Contains(metrics, `extauthz_decisions_total{code="FORBIDDEN"} 1`) || !strings.Contains(metrics, `extauthz_decisions_total{code="VALID"} 1`) {
		t.Errorf("metrics: %s", metrics)
	}
	quiet(t, envoy)
	if code := envoy.Stop(); code != 0 {
		t.Errorf("Envoy ended with %d", code)
	}
	if used := (replicas{file: m.config()}).command(t, "", "key", "usage", "key_listed"); !strings.Contains(used, "127.0.0.1") {
		t.Errorf("usage: %s", used)
	}
	out, err := os.ReadFile(m.dir + "/decisions.log")
	if text := string(out); err != nil || !strings.Contains(text, `"key_listed"`) || !strings.Contains(text, `"FORBIDDEN"`) || strings.Contains(text, string(listed)) {
		t.Errorf("the decision log: %v %s", err, out)
	}
}
