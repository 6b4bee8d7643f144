package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/polltest"
)

// A module is the configuration of the dynamic module, in a folder of its own.
type module struct{ dir string }

// newModule builds the module, and writes a key file and a configuration, to which the store is added
// where it has none. The admin listener is not opened unless config names it.
func newModule(t testing.TB, keys, config string) module {
	t.Helper()
	harness.Module(t)
	m := module{t.TempDir()}
	if !strings.Contains("\n"+config, "\nstore:") {
		config += "\nstore: {yaml: {path: keys.yaml}}\n"
	}
	if !strings.Contains("\n"+config, "\nadmin:") {
		config += "\nadmin: {listen: none}\n"
	}
	m.write(t, "keys.yaml", keys)
	m.write(t, "extauthz.yaml", config)
	return m
}

// config returns the path of the configuration file.
func (m module) config() string { return filepath.Join(m.dir, "extauthz.yaml") }

// write replaces a file, by a rename.
func (m module) write(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Envoy itself decides on requests, and the peer's address is that of the connection, whatever a
// caller writes into headers.
func TestModule(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	m := newModule(t, keys, allSources)
	envoy := gateway{Module: m.config(), Upstream: upstream.Addr}.start(t)
	front := envoy.Addr("front")

	saw := send(t, front, call{header: headers("X-Api-Key", string(listed), "X-Extauthz-Role", "admin")}).upstreamSaw(t)
	for name, want := range map[string]string{
		"x-api-key": "", "x-extauthz-role": "",
		"x-extauthz-key-id": "key_listed", "x-extauthz-client-address": "127.0.0.1", "x-extauthz-external-id": "acme",
	} {
		if got := strings.Join(saw.Headers[name], ","); got != want {
			t.Errorf("the upstream saw %s: %q, want %q", name, got, want)
		}
	}
	send(t, front, call{}).wantRefusal(t, 401, "MISSING_KEY", "")
	send(t, front, call{header: headers("X-Api-Key", "acme_unknown")}).wantRefusal(t, 401, "NOT_FOUND", "")
	for _, name := range []string{"X-Forwarded-For", "X-Envoy-External-Address", "X-Real-Ip"} {
		r := send(t, front, call{header: headers("X-Api-Key", string(elsewhere), name, "192.0.2.7")})
		r.wantRefusal(t, 403, "FORBIDDEN", "key_elsewhere")
		r = send(t, front, call{header: headers("X-Api-Key", string(listed), name, "10.1.2.3"), from: "127.0.0.2"})
		r.wantRefusal(t, 403, "FORBIDDEN", "key_listed")
	}
	if saw := send(t, front, call{path: "/x?b=2&flag&api_key=acme_open&sig=x%2By"}).upstreamSaw(t); saw.Path != "/x?b=2&flag&sig=x%2By" {
		t.Errorf("the upstream saw %s", saw.Path)
	}
	quiet(t, envoy)
	if strings.Contains(envoy.Log(), string(listed)) {
		t.Error("a secret stands in Envoy's log")
	}
	if code := envoy.Stop(); code != 0 {
		t.Errorf("Envoy ended with %d", code)
	}
}

// With use_remote_address: false, what Envoy itself takes for the caller's address, as its access log and the attribute
// source.address have it, is the caller's own x-forwarded-for. The module does not use it.
func TestModuleDoesNotUseTheDetectedAddress(t *testing.T) {
	t.Parallel()
	g := gateway{Upstream: harness.StartUpstream(t).Addr, AccessLog: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"}
	g.Module = newModule(t, keys, "").config()
	envoy := g.start(t)
	spoofed := call{header: headers("X-Api-Key", string(listed), "X-Forwarded-For", "10.1.2.3"), from: "127.0.0.2"} // listed: 10.0.0.0/8
	send(t, envoy.Addr("front"), spoofed).wantRefusal(t, 403, "FORBIDDEN", "key_listed")
	polltest.Until(t, "Envoy logs the caller's own entry", func() bool { return strings.Contains(envoy.Log(), "10.1.2.3 127.0.0.2") })
}

// quiet fails if Envoy's log holds a warning or an error that is the module's, or about it.
func quiet(t testing.TB, envoy *harness.EnvoyProcess) {
	t.Helper()
	for line := range strings.Lines(envoy.Log()) {
		own := strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR")
		about := strings.Contains(line, "dynamic") || strings.Contains(line, "extauthz") || strings.Contains(line, "eprecated")
		if own && !strings.Contains(line, "expired already") || about && (strings.Contains(line, "[warning]") || strings.Contains(line, "[error]")) {
			t.Errorf("Envoy logs %s", line)
		}
	}
}
