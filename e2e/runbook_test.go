package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/polltest"
	"extauthz/redisclient/redistest"
)

// docs/runbook.md distinguishes the kinds of 503 by the body and by Envoy's access log.
func TestKindsOf503(t *testing.T) {
	t.Parallel()
	const format = "details=%RESPONSE_CODE_DETAILS% code=%DYNAMIC_METADATA(envoy.filters.http.ext_authz:code)% end"
	for _, test := range []struct {
		name       string
		store      bool // keys in a Redis that is killed
		killed     bool // extauthz is killed
		noUpstream bool
		large      bool   // the check is larger than extauthz accepts
		body       string // a part of the body; "" for an empty body
		logged     string
		stat       string // a counter of Envoy that is 1
	}{
		{"extauthz could not decide", true, false, false, false, `"code":"UNAVAILABLE"`, "details=ext_authz_error code=UNAVAILABLE", "http.front.ext_authz.error"},
		{"extauthz did not answer", false, true, false, false, "", "details=ext_authz_error code=- ", "http.front.ext_authz.error"},
		{"the check is too large", false, false, false, true, `"code":"UNAVAILABLE"`, "details=ext_authz_denied code=UNAVAILABLE", "http.front.ext_authz.denied"},
		{"the upstream did not answer", false, false, true, false, "upstream connect error", "details=upstream_reset_before_response_started", "http.front.ext_authz.ok"},
	} {
		t.Run(test.name, func(t *testing.T) {
			settings := harness.Settings{Keys: keys}
			if test.large {
				settings.Config = "grpc: {max_message_size: 16384}\n"
			}
			var redis *redistest.Server
			if test.store {
				redis = redistest.Start(t)
				settings.Config = fmt.Sprintf("store: {redis: {url: %q}}\n", redis.URL())
			}
			server := harness.StartExtauthz(t, settings)
			upstream := harness.StartUpstream(t).Addr
			if test.noUpstream {
				upstream = harness.FreeAddr(t)
			}
			envoy := gateway{Servers: []string{server.Addr}, Upstream: upstream, AccessLog: format}.start(t)
			if test.store {
				redis.Kill()
			}
			if test.killed {
				server.Kill()
			}
			c := call{header: headers("X-Api-Key", string(listed))}
			if test.large {
				c.header.Set("X-Large", strings.Repeat("x", 20_000))
			}
			r := send(t, envoy.Addr("front"), c)
			if r.status != 503 || !strings.Contains(r.body, test.body) || test.body == "" && r.body != "" {
				t.Errorf("got %d %q, want 503 with %q", r.status, r.body, test.body)
			}
			polltest.Until(t, "the access log has the request", func() bool { return strings.Contains(envoy.Log(), " end\n") })
			if !strings.Contains(envoy.Log(), test.logged) {
				t.Errorf("no %q in Envoy's access log", test.logged)
			}
			if n := envoy.Stat(test.stat); n != 1 {
				t.Errorf("%s is %d", test.stat, n)
			}
		})
	}
}

// The runbook quotes the log lines about the client address.
func TestRunbookQuotesTheLog(t *testing.T) {
	t.Parallel()
	root := harness.Root(t)
	text, err := os.ReadFile(filepath.Join(root, "docs/runbook.md"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(root, "check/address.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Callers get 403\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := regexp.MustCompile(`(?m)^\|.*$`).FindAllString(section, -1)
	quotes := regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(strings.Join(rows, "\n"), -1)
	if len(quotes) < 5 {
		t.Fatalf("the runbook quotes %q", quotes)
	}
	for _, quote := range quotes {
		if !strings.Contains(string(source), quote[0]) {
			t.Errorf("no error of check/address.go says %s", quote[0])
		}
	}
}
