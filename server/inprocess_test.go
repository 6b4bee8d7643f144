package server

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"extauthz/check"
	"extauthz/config"
	"extauthz/keystore"
	"extauthz/polltest"
	"extauthz/proctest"
	"extauthz/redisclient/redistest"
)

// openInProcess opens a configuration with a key, whose secret is "secret", and these lines.
func openInProcess(t *testing.T, lines string) (p *InProcess, log *proctest.Buffer, path string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "extauthz.yaml")
	writeFile(t, filepath.Join(dir, "keys.yaml"), "keys: [{id: key_a, hash: "+keystore.Secret("secret").Hash().String()+"}]\n")
	writeFile(t, path, "store: {yaml: {path: keys.yaml}}\n"+lines)
	log = new(proctest.Buffer)
	w := NewLogWriter(log)
	t.Cleanup(w.Close)
	p, err := Open(t.Context(), Options{
		Load: func() (*config.Config, error) { return config.Load(path, config.Overrides{InProcess: true}) }, Log: w,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, log, path
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// status returns the status of the refusal of a request with the secret; 0 if it is allowed.
func (p *InProcess) status(ctx context.Context, secret string) int {
	var o check.Outcome
	a := check.Attributes{Peer: "192.0.2.1", Path: "/", Headers: []check.Field{{Name: "x-api-key", Value: secret}}}
	if _, done := p.Checker().TryCheck(ctx, &a, &o); !done {
		return -1
	}
	if o.Allowed() {
		return 0
	}
	return o.Status()
}

func TestOpenReloads(t *testing.T) {
	p, log, path := openInProcess(t, "listen: 192.0.2.1:1\nadmin: {listen: none}\ngrpc: {max_connection_age: 1m}\n")
	if got := p.status(t.Context(), "secret"); got != 0 {
		t.Errorf("a known secret: %d", got)
	}
	if got := p.status(t.Context(), "other"); got != 401 {
		t.Errorf("an unknown secret: %d", got)
	}
	writeFile(t, path, "store: {yaml: {path: keys.yaml}}\nadmin: {listen: none}\nstatuses: {NOT_FOUND: 404}\ngrpc: {max_connection_age: 2m}\n")
	polltest.Until(t, "the configuration is reloaded", func() bool { return p.status(t.Context(), "other") == 404 })
	if text := log.String(); strings.Contains(text, "level=WARN") || strings.Contains(text, "level=ERROR") {
		t.Errorf("the log holds %s", text)
	}
	p.Close()
}

// The admin listener waits until its address is free.
func TestOpenAwaitsTheAdminAddress(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := taken.Addr().String()
	p, log, _ := openInProcess(t, "admin: {listen: "+address+"}\n")
	polltest.Until(t, "the log says why", func() bool { return strings.Contains(log.String(), "the admin listener cannot be opened yet") })
	if got := p.status(t.Context(), "secret"); got != 0 {
		t.Errorf("without it: %d", got)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	ready := func() bool {
		response, err := http.Get("http://" + address + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	}
	polltest.Until(t, "it is ready", ready)
	p.Close()
	if ready() {
		t.Error("it is ready after Close")
	}
}

// Open waits only a moment for servers that accept connections and do not answer, and requests are refused until
// they do.
func TestOpenDoesNotWaitForServers(t *testing.T) {
	redis := redistest.Start(t)
	redis.Pause()
	path := filepath.Join(t.TempDir(), "extauthz.yaml")
	writeFile(t, path, "store: {redis: {url: \""+redis.URL()+"\"}}\nratelimit: {store: redis, url: \""+redis.URL()+"\"}\nusage: {record: true}\nadmin: {listen: none}\n")
	w := NewLogWriter(new(proctest.Buffer))
	t.Cleanup(w.Close)
	start := time.Now()
	p, err := Open(t.Context(), Options{Load: func() (*config.Config, error) { return config.Load(path, config.Overrides{InProcess: true}) }, Log: w})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if took := time.Since(start); took > 1500*time.Millisecond { // one attempt to connect takes 2 s
		t.Errorf("Open took %s", took)
	}
	a := check.Attributes{Peer: "192.0.2.1", Path: "/", Headers: []check.Field{{Name: "x-api-key", Value: "secret"}}}
	var o check.Outcome
	if p.Checker().Check(t.Context(), &a, &o); o.Allowed() || o.Status() != 503 {
		t.Errorf("while Redis hangs: allowed %t, %d", o.Allowed(), o.Status())
	}
	redis.Resume()
	polltest.Until(t, "Redis answers", func() bool {
		p.Checker().Check(t.Context(), &a, &o)
		return !o.Allowed() && o.Status() == 401
	})
}

func TestOpenFails(t *testing.T) {
	for name, lines := range map[string]string{"a field": "nonsense: 1\n", "no keys": "store: {yaml: {path: nowhere.yaml}}\n"} {
		path := filepath.Join(t.TempDir(), "extauthz.yaml")
		writeFile(t, path, lines)
		w := NewLogWriter(new(proctest.Buffer))
		_, err := Open(t.Context(), Options{Load: func() (*config.Config, error) { return config.Load(path, config.Overrides{InProcess: true}) }, Log: w})
		if err == nil || !strings.Contains(err.Error(), strings.Fields(strings.NewReplacer("nonsense:", "nonsense", "store:", "nowhere.yaml").Replace(lines))[0]) {
			t.Errorf("%s: %v", name, err)
		}
		w.Close()
	}
}
