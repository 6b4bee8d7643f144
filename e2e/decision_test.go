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

const (
	listed    keystore.Secret = "acme_listed"
	open      keystore.Secret = "acme_open"
	disabled  keystore.Secret = "acme_disabled"
	expired   keystore.Secret = "acme_expired"
	elsewhere keystore.Secret = "acme_elsewhere"
)

var keys = "keys:\n" +
	record("key_listed", listed, `name: "Acme, production"`, "ip_whitelist: [127.0.0.1, 10.0.0.0/8]", "external_id: acme") +
	record("key_open", open) +
	record("key_disabled", disabled, "enabled: false") +
	record("key_expired", expired, "expires: 2020-01-31T00:00:00Z") +
	record("key_elsewhere", elsewhere, `ip_whitelist: [192.0.2.7, "2001:db8::/32"]`)

var allSources = `
key_sources:
  - {header: x-api-key}
  - {header: authorization, scheme: Bearer}
  - {query: api_key}
  - {cookie: api_key}
`

func TestDecisionsThroughEnvoy(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, listen func(testing.TB) string, raw bool) {
		upstream := harness.StartUpstream(t)
		server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: allSources, Listen: listen(t)})
		envoy := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, RawHeaders: raw}.start(t)
		front := envoy.Addr("front")

		deny := func(name string, c call, status int, code, keyID string) {
			t.Run(name, func(t *testing.T) {
				upstream.Forget()
				r := send(t, front, c)
				r.wantRefusal(t, status, code, keyID)
				if auth := r.header.Get("WWW-Authenticate"); (status == 401) != (auth != "") {
					t.Errorf("WWW-Authenticate is %q on a %d", auth, status)
				}
				if seen := upstream.Seen(); len(seen) > 0 {
					t.Errorf("a refused request reached the upstream: %+v", seen)
				}
			})
		}
		deny("no secret", call{}, 401, "MISSING_KEY", "")
		deny("an empty secret", call{header: headers("X-Api-Key", "")}, 401, "MISSING_KEY", "")
		deny("another scheme", call{header: headers("Authorization", "Basic "+string(listed))}, 401, "MISSING_KEY", "")
		deny("an unknown secret", call{header: headers("X-Api-Key", "acme_unknown")}, 401, "NOT_FOUND", "")
		deny("a repeated header", call{header: headers("X-Api-Key", string(listed), "X-Api-Key", string(listed))}, 401, "NOT_FOUND", "")
		deny("a repeated header in two cases", call{header: headers("X-Api-Key", string(listed), "x-api-key", string(open))}, 401, "NOT_FOUND", "")
		deny("a repeated parameter", call{path: "/a?api_key=acme_listed&api_key=acme_listed"}, 401, "NOT_FOUND", "")
		deny("a secret over 512 bytes", call{header: headers("X-Api-Key", strings.Repeat("a", 513))}, 401, "NOT_FOUND", "")
		deny("a disabled key", call{header: headers("X-Api-Key", string(disabled))}, 401, "DISABLED", "key_disabled")
		deny("an expired key", call{header: headers("X-Api-Key", string(expired))}, 401, "EXPIRED", "key_expired")
		deny("from an address that is not listed", call{header: headers("X-Api-Key", string(listed)), from: "127.0.0.2"}, 403, "FORBIDDEN", "key_listed")
		deny("the first source decides", call{header: headers("X-Api-Key", string(elsewhere), "Authorization", "Bearer "+string(listed))}, 403, "FORBIDDEN", "key_elsewhere")
		for _, header := range spoofable {
			deny("a spoofed "+header, call{header: headers("X-Api-Key", string(elsewhere), header, "192.0.2.7")}, 403, "FORBIDDEN", "key_elsewhere")
		}

		allow := func(name string, c call, wantPath string) {
			t.Run(name, func(t *testing.T) {
				saw := send(t, front, c).upstreamSaw(t)
				if saw.Path != wantPath {
					t.Errorf("the upstream saw the path %q, want %q", saw.Path, wantPath)
				}
				if all := fmt.Sprint(saw); strings.Contains(all, string(listed)) || strings.Contains(all, string(open)) {
					t.Errorf("the upstream saw a secret: %s", all)
				}
				for name, want := range map[string][]string{
					"x-extauthz-key-id": {"key_listed"}, "x-extauthz-client-address": {"127.0.0.1"}, "x-extauthz-external-id": {"acme"},
				} {
					if got := saw.Headers[name]; !slices.Equal(got, want) {
						t.Errorf("the upstream saw %s: %q, want %q", name, got, want)
					}
				}
			})
		}
		key := string(listed)
		allow("by header", call{header: headers("X-Api-Key", key)}, "/documents")
		allow("by bearer token", call{header: headers("Authorization", "bEaReR "+key)}, "/documents")
		allow("by query", call{path: "/a?b=1&api_key=" + key + "&c=%20"}, "/a?b=1&c=%20")
		allow("by query, escaped", call{path: "/a?api_key=acme%5Flisted&b=2"}, "/a?b=2")
		allow("by query, an escaped name", call{path: "/a?%61pi_key=" + key + "&b=2"}, "/a?b=2")
		allow("by cookie", call{header: headers("Cookie", "a=1; api_key="+key+"; b=2")}, "/documents")
		allow("in every place at once", call{
			path: "/a?api_key=" + key, header: headers("X-Api-Key", key, "Authorization", "Bearer "+key, "Cookie", "api_key="+key),
		}, "/a")
	})
}

// spoofable are headers from which some servers read the client address.
var spoofable = []string{
	"X-Forwarded-For", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "Fastly-Client-Ip",
	"X-Cluster-Client-Ip", "X-Envoy-External-Address", "X-Original-Forwarded-For", "Forwarded", "X-Forwarded",
	"Client-Ip", "X-Extauthz-Client-Address", "Via",
}

func TestIdentityCannotBeSpoofed(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]string{
		"all headers":     "",
		"allowed_headers": "allowed_headers: {patterns: [{exact: x-api-key}]}",
	} {
		t.Run(name, func(t *testing.T) {
			upstream := harness.StartUpstream(t)
			server := harness.StartExtauthz(t, harness.Settings{Keys: keys})
			envoy := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, Options: options}.start(t)
			spoofed := headers(
				"X-Api-Key", string(open),
				"X-Extauthz-Key-Id", "key_admin", "x-extauthz-key-id", "key_admin",
				"X-Extauthz-Client-Address", "192.0.2.7",
				"X-Extauthz-External-Id", "admin")
			if options == "" {
				spoofed["X-Extauthz-Role"] = []string{"admin"}
				spoofed["X_Extauthz_Key_Id"] = []string{"key_admin"}
			}
			saw := send(t, envoy.Addr("front"), call{header: spoofed}).upstreamSaw(t)
			for name, values := range saw.Headers {
				if !strings.HasPrefix(strings.ReplaceAll(name, "_", "-"), "x-extauthz-") {
					continue
				}
				want := map[string]string{"x-extauthz-key-id": "key_open", "x-extauthz-client-address": "127.0.0.1"}[name]
				if want == "" || !slices.Equal(values, []string{want}) {
					t.Errorf("the upstream saw %s: %q, want %q", name, values, want)
				}
			}
			if got := saw.Headers["x-extauthz-key-id"]; !slices.Equal(got, []string{"key_open"}) {
				t.Errorf("the upstream saw the key id %q", got)
			}
		})
	}
}

func TestSecretIsForwardedWhereAskedFor(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: "forward_key: true"})
	envoy := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr}.start(t)
	saw := send(t, envoy.Addr("front"), call{header: headers("X-Api-Key", string(open))}).upstreamSaw(t)
	if got := saw.Headers["x-api-key"]; !slices.Equal(got, []string{string(open)}) {
		t.Errorf("the upstream saw x-api-key: %q", got)
	}
}

func TestStatusesFromTheConfiguration(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: "statuses: {EXPIRED: 403, MISSING_KEY: 404}"})
	envoy := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr}.start(t)
	send(t, envoy.Addr("front"), call{header: headers("X-Api-Key", string(expired))}).wantRefusal(t, 403, "EXPIRED", "key_expired")
	send(t, envoy.Addr("front"), call{}).wantRefusal(t, 404, "MISSING_KEY", "")
}

func TestDynamicMetadataInTheAccessLog(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys})
	envoy := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr}.start(t)
	for _, test := range []struct {
		path   string
		secret keystore.Secret
		from   string
		want   []string
	}{
		{"/allowed", listed, "127.0.0.1", []string{"ACCESS 200", `"code":"VALID"`, `"key_id":"key_listed"`, `"external_id":"acme"`, `"client_address":"127.0.0.1"`}},
		{"/forbidden", listed, "127.0.0.2", []string{"ACCESS 403", `"code":"FORBIDDEN"`, `"key_id":"key_listed"`, `"external_id":"acme"`, `"client_address":"127.0.0.2"`}},
		{"/unknown", "acme_unknown", "127.0.0.2", []string{"ACCESS 401", `"code":"NOT_FOUND"`, `"client_address":"127.0.0.2"`}},
	} {
		if _, err := trySend(t, envoy.Addr("front"), call{path: test.path, header: headers("X-Api-Key", string(test.secret)), from: test.from}); err != nil {
			t.Fatal(err)
		}
		polltest.NoError(t, func() error {
			for line := range strings.Lines(envoy.Log()) {
				if !strings.Contains(line, test.path+" ") {
					continue
				}
				for _, want := range test.want {
					if !strings.Contains(line, want) {
						t.Fatalf("access log: %swithout %s", line, want)
					}
				}
				return nil
			}
			return fmt.Errorf("no line for %s in Envoy's access log", test.path)
		})
	}
}

func TestSecretsStayOutOfSight(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: allSources + "log: {level: debug, format: json}\n"})
	envoy := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr}.start(t)
	for _, secret := range []keystore.Secret{listed, open, disabled, expired, elsewhere, "acme_unknown"} {
		for _, c := range []call{
			{header: headers("X-Api-Key", string(secret))},
			{header: headers("Authorization", "Bearer "+string(secret))},
			{path: "/q?api_key=" + string(secret)},
			{header: headers("Cookie", "api_key="+string(secret))},
			{header: headers("X-Api-Key", string(secret)), from: "127.0.0.2"},
		} {
			if _, err := trySend(t, envoy.Addr("front"), c); err != nil {
				t.Fatal(err)
			}
		}
	}
	metrics := server.Metrics(t)
	if code := server.Stop(); code != 0 {
		t.Errorf("extauthz ended with %d", code)
	}
	if !strings.Contains(server.Log(), "key_listed") {
		t.Error("the log does not name the key: this test would see no secret either")
	}
	for _, secret := range []keystore.Secret{listed, open, disabled, expired, elsewhere, "acme_unknown"} {
		for where, text := range map[string]string{"log": server.Log(), "metrics": metrics} {
			if strings.Contains(text, string(secret)) || strings.Contains(text, secret.Hash().String()) {
				t.Errorf("the %s holds a secret or its hash (%s)", where, string(secret))
			}
		}
	}
}
