package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"extauthz/polltest"
)

const (
	secretOne   = "sk_secretone4711"
	secretTwo   = "sk_secrettwo4711"
	secretOther = "sk_secretother4711"
)

// local is a configuration with free ports and without a drain period.
const local = "listen: 127.0.0.1:0\nadmin: {listen: \"127.0.0.1:0\"}\nshutdown: {drain: 0s}\n"

func TestServeDecides(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.yaml")
	write(t, keys, keyFile(secretOne))
	p := serve(t, local+"log: {level: debug}\nstore: {yaml: {path: "+keys+"}}\n")

	for _, c := range []struct{ secret, peer, want string }{
		{secretOne, "10.1.2.3", "VALID"},
		{secretOne, "11.1.2.3", "FORBIDDEN"},
		{secretOther, "10.1.2.3", "NOT_FOUND"},
		{"", "10.1.2.3", "MISSING_KEY"},
	} {
		if got := mustCheck(t, p.conn, c.secret, c.peer); got != c.want {
			t.Errorf("%s from %s is %s, want %s", c.secret, c.peer, got, c.want)
		}
	}
	for _, service := range []string{"", serviceName} {
		if got := healthOf(t, p.conn, service); got != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("the health of %q is %s", service, got)
		}
	}
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ok\n"} {
		if status, body := p.get(t, path); status != 200 || body != want {
			t.Errorf("%s says %d %q", path, status, body)
		}
	}
	for name, want := range map[string]string{
		`extauthz_decisions_total{code="VALID"}`:        "1",
		`extauthz_decisions_total{code="FORBIDDEN"}`:    "1",
		`extauthz_decisions_total{code="RATE_LIMITED"}`: "0",
		`extauthz_decision_duration_seconds_count`:      "4",
		`extauthz_keys`: "1",
		`extauthz_cache_lookups_total{result="hit"}`:        "0",
		`extauthz_panics_total`:                             "0",
		`extauthz_client_address_failures_total`:            "0",
		`extauthz_reloads_total{result="failure"}`:          "0",
		`extauthz_cache_store_outage`:                       "0",
		`extauthz_decision_duration_seconds_bucket{le="1"}`: "4",
	} {
		if got := p.metric(t, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	_, metrics := p.get(t, "/metrics")
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	log := p.Log()
	for _, want := range []string{
		`level=DEBUG msg=decision code=VALID key_id=key_0 key_name="key number 0" client_address=10.1.2.3 client_address_from=peer method=GET host=api.example.com path=/things request_id=req-1`,
		`level=INFO msg=decision code=FORBIDDEN key_id=key_0`,
		`level=INFO msg=decision code=MISSING_KEY client_address=10.1.2.3`,
		`level=INFO msg=stopped`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	if regexp.MustCompile(`4711`).MatchString(log + metrics) {
		t.Error("a secret is in the log or in the metrics")
	}
}

func TestServeReloads(t *testing.T) {
	t.Parallel()
	keys := filepath.Join(t.TempDir(), "keys.yaml")
	write(t, keys, keyFile(secretOne))
	p := serve(t, local+"store: {yaml: {path: "+keys+"}}\n")
	becomes := func(how, secret, want string) {
		t.Helper()
		polltest.Until(t, how+": "+want, func() bool { return mustCheck(t, p.conn, secret, "10.1.2.3") == want })
	}

	write(t, keys, keyFile(secretTwo))
	becomes("a plain write", secretTwo, "VALID")
	becomes("a plain write", secretOne, "NOT_FOUND")

	write(t, keys+".new", keyFile(secretOne, secretTwo))
	if err := os.Rename(keys+".new", keys); err != nil {
		t.Fatal(err)
	}
	becomes("a rename", secretOne, "VALID")

	write(t, keys, "keys:\n  - {id: key_0, hash: 4711}\n")
	polltest.Until(t, "the error in the file is logged", func() bool {
		return p.metric(t, `extauthz_reloads_total{result="failure"}`) != "0" && strings.Contains(p.Log(), "keys.yaml:2:")
	})
	becomes("a bad file", secretOne, "VALID")
	if got := p.metric(t, "extauthz_keys"); got != "2" {
		t.Errorf("%s keys after a bad file, want the 2 from before it", got)
	}
	if status, body := p.get(t, "/readyz"); status != 200 {
		t.Errorf("not ready for a bad file: %d %s", status, body)
	}

	write(t, keys, keyFile(secretTwo))
	becomes("a good file after a bad one", secretOne, "NOT_FOUND")

	loaded := p.metric(t, `extauthz_reloads_total{result="success"}`)
	p.Signal(syscall.SIGHUP)
	polltest.Until(t, "SIGHUP reads the keys", func() bool {
		return p.metric(t, `extauthz_reloads_total{result="success"}`) != loaded
	})
	if p.metric(t, "extauthz_last_reload_success_timestamp_seconds") == "0" {
		t.Error("no time of the last reload")
	}
}

func TestServeDrains(t *testing.T) {
	t.Parallel()
	keys := filepath.Join(t.TempDir(), "keys.yaml")
	write(t, keys, keyFile(secretOne))
	p := serve(t, strings.Replace(local, "0s", "1h", 1)+"store: {yaml: {path: "+keys+"}}\n")
	p.Signal(syscall.SIGTERM)
	polltest.Until(t, "readyz says no", func() bool { status, _ := p.get(t, "/readyz"); return status == 503 })
	if _, body := p.get(t, "/readyz"); body != "stopping\n" {
		t.Errorf("the reason is %q", body)
	}
	if status, _ := p.get(t, "/healthz"); status != 200 {
		t.Errorf("healthz says %d while draining", status)
	}
	for _, service := range []string{"", serviceName} {
		if got := healthOf(t, p.conn, service); got != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("the health of %q is %s while draining", service, got)
		}
	}
	if got := mustCheck(t, p.conn, secretOne, "10.1.2.3"); got != "VALID" {
		t.Errorf("%s while draining", got)
	}
	polltest.Until(t, "a second signal ends it at once", func() bool {
		p.Signal(syscall.SIGINT)
		return !p.Running()
	})
	if code := p.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestServeUnixSocket(t *testing.T) {
	dir := t.TempDir()
	keys, socket := filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "extauthz.sock")
	write(t, keys, keyFile(secretOne))
	configuration := "listen: unix:" + socket + "\nadmin: {listen: none}\nshutdown: {drain: 0s}\nstore: {yaml: {path: " + keys + "}}\n"
	p := serve(t, configuration)
	if p.admin != "none" {
		t.Errorf("an admin listener at %s", p.admin)
	}
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	if got := mustCheck(t, p.conn, secretOne, "10.1.2.3"); got != "VALID" {
		t.Error(got)
	}

	// A second server does not replace the first one's socket.
	second := start(t, "serve", "--keys", keys, "--listen", "unix:"+socket, "--admin", "none")
	if code := second.Wait(); code != 1 || !strings.Contains(second.Log(), "another server listens on it") {
		t.Errorf("exit code %d: %s", code, second.Log())
	}
	if got := mustCheck(t, p.conn, secretOne, "10.1.2.3"); got != "VALID" {
		t.Error(got)
	}

	// The socket of a killed server is replaced; a server that stops removes its socket.
	p.Signal(syscall.SIGKILL)
	p.Wait()
	if _, err := os.Lstat(socket); err != nil {
		t.Fatalf("nothing is left behind to replace: %v", err)
	}
	p = serve(t, configuration)
	if got := mustCheck(t, p.conn, secretOne, "10.1.2.3"); got != "VALID" {
		t.Error(got)
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}
