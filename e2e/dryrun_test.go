package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/keystore"
	"extauthz/polltest"
)

// accessLog returns Envoy's log line about a path.
func accessLog(t testing.TB, envoy *harness.EnvoyProcess, path string) (found string) {
	t.Helper()
	polltest.NoError(t, func() error {
		for line := range strings.Lines(envoy.Log()) {
			if strings.Contains(line, "ACCESS") && strings.Contains(line, path+" ") {
				found = line
				return nil
			}
		}
		return fmt.Errorf("no line for %s in Envoy's access log", path)
	})
	return found
}

// A dry run lets every request through, removes identity headers that the caller sent, and reports what
// it would have done to the operator, not to the caller.
func TestDryRun(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{
		Keys:   keys + record("key_metered", metered, twoAnHour),
		Config: "dry_run: true\nroutes: [{path_prefix: /admin, permissions: admin}]\nlog: {format: json}\n",
	})
	logged(t, server, "DRY RUN: every request is let through") // at the start
	envoy := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr}.start(t)
	front := envoy.Addr("front")
	for i := range 4 {
		r := send(t, front, call{path: fmt.Sprintf("/metered/%d", i), header: headers("X-Api-Key", string(metered))})
		if got := r.limits(); got != "200" || r.header.Get("Retry-After") != "" {
			t.Errorf("the caller gets %s", got)
		}
	}
	for _, test := range []struct {
		path   string
		secret keystore.Secret
		from   string
		code   string
		keyID  string
	}{
		{"/valid", listed, "127.0.0.1", "VALID", "key_listed"},
		{"/forbidden", listed, "127.0.0.2", "FORBIDDEN", "key_listed"},
		{"/unknown", "acme_unknown", "127.0.0.1", "NOT_FOUND", ""},
		{"/missing", "", "127.0.0.1", "MISSING_KEY", ""},
		{"/disabled", disabled, "127.0.0.1", "DISABLED", "key_disabled"},
		{"/admin/7", listed, "127.0.0.1", "INSUFFICIENT_PERMISSIONS", "key_listed"},
		{"/admin;x", listed, "127.0.0.1", "INSUFFICIENT_PERMISSIONS", "key_listed"},
		{"/metered/last", metered, "127.0.0.1", "RATE_LIMITED", "key_metered"},
	} {
		header := headers("x-extauthz-key-id", "key_root", "x-extauthz-external-id", "root", "x-extauthz-role", "root")
		if test.secret != "" {
			header["X-Api-Key"] = []string{string(test.secret)}
		}
		saw := send(t, front, call{path: test.path, header: header, from: test.from}).upstreamSaw(t)
		var want []string
		if test.keyID != "" {
			want = []string{test.keyID}
		}
		if got := saw.Headers["x-extauthz-key-id"]; !slices.Equal(got, want) {
			t.Errorf("%s: the upstream saw x-extauthz-key-id: %q, want %q", test.path, got, want)
		}
		if all := fmt.Sprint(saw); strings.Contains(all, "root") || test.secret != "" && strings.Contains(all, string(test.secret)) {
			t.Errorf("%s: the upstream saw %s", test.path, all)
		}
		line := accessLog(t, envoy, test.path)
		for _, want := range []string{"ACCESS 200", `"dry_run":"true"`, fmt.Sprintf(`"code":%q`, test.code)} {
			if !strings.Contains(line, want) {
				t.Errorf("access log: %swithout %s", line, want)
			}
		}
	}
	m := server.Metrics(t)
	for _, want := range []string{
		`extauthz_dry_run_let_through_total{code="FORBIDDEN"} 1`, `extauthz_dry_run_let_through_total{code="RATE_LIMITED"} 3`,
		"extauthz_dry_run 1", `extauthz_dry_run_let_through_total{code="VALID"} 0`, `extauthz_decisions_total{code="FORBIDDEN"} 1`,
	} {
		if !strings.Contains(m, "\n"+want+"\n") {
			t.Errorf("the metrics do not say %s", want)
		}
	}
	logged(t, server, `"code":"FORBIDDEN","key_id":"key_listed"`)
	logged(t, server, `"dry_run":true`)
}

// Envoy's own shadow_mode also lets every request through, but removes neither the caller's identity
// headers nor the secret from a request that it would have refused.
func TestShadowMode(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys})
	envoy := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, Options: "shadow_mode: true"}.start(t)
	front := envoy.Addr("front")
	saw := send(t, front, call{path: "/forbidden", header: headers("X-Api-Key", string(elsewhere), "x-extauthz-key-id", "key_root")}).upstreamSaw(t)
	if got := saw.Headers["x-extauthz-key-id"]; !slices.Equal(got, []string{"key_root"}) {
		t.Errorf("Envoy removed a forged identity, contrary to the documentation: %q", got)
	}
	if got := saw.Headers["x-api-key"]; !slices.Equal(got, []string{string(elsewhere)}) {
		t.Errorf("Envoy removed the secret, contrary to the documentation: %q", got)
	}
	if line := accessLog(t, envoy, "/forbidden"); !strings.Contains(line, `"code":"FORBIDDEN"`) {
		t.Errorf("access log: %s", line)
	}
	saw = send(t, front, call{path: "/valid", header: headers("X-Api-Key", string(listed), "x-extauthz-key-id", "key_root")}).upstreamSaw(t)
	if got := saw.Headers["x-extauthz-key-id"]; !slices.Equal(got, []string{"key_listed"}) || saw.Headers["x-api-key"] != nil {
		t.Errorf("the upstream saw %v", saw.Headers)
	}
}
