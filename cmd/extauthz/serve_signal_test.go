package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/polltest"
)

// SIGTERM stops a server cleanly from the start of the process, before it serves.
func TestServeStoppedInTheFirstMoments(t *testing.T) {
	dir := t.TempDir()
	keys, file := filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "extauthz.yaml")
	write(t, keys, keyFile(secretOne))
	write(t, file, local+"store: {yaml: {path: keys.yaml}}\n")
	t.Setenv("GODEBUG", "inittrace=1") // the runtime says what it has initialized
	for range 10 {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			p := start(t, "serve", "--config", file)
			polltest.Until(t, "signals are received", func() bool { return strings.Contains(p.Log(), "init extauthz/cmd/extauthz/signals ") })
			p.Signal(syscall.SIGHUP)
			p.Signal(sig)
			if code := p.Wait(); code != 0 {
				t.Fatalf("exit code %d after %s", code, sig)
			}
		}
	}
}

// SIGTERM does not wait until a large key file is loaded, neither at the start nor later.
func TestServeStoppedWhileItReads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, file := filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "extauthz.yaml")
	f, err := os.Create(keys)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, "keys:")
	for i := range 15_000 {
		fmt.Fprintf(f, "  - {id: key_%d, hash: %s, ip_whitelist: [10.0.0.0/8, 192.0.2.7]}\n", i, keystore.Secret(fmt.Sprint(i)).Hash())
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	admin := filepath.Join(dir, "admin.sock")
	write(t, file, fmt.Sprintf("listen: 127.0.0.1:0\nadmin: {listen: %q}\nshutdown: {drain: 0s}\nstore: {yaml: {path: keys.yaml}}\n", "unix:"+admin))
	p := start(t, "serve", "--config", file)
	polltest.Until(t, "the admin listener is up", func() bool { _, err := os.Stat(admin); return err == nil })
	p.Signal(syscall.SIGTERM)
	stopped(t, p, "while it reads the keys")
	if _, err := os.Lstat(admin); !os.IsNotExist(err) {
		t.Errorf("the admin listener's socket is left behind: %v", err)
	}
	if strings.Contains(p.Log(), "msg=serving") {
		t.Fatal("it served already: the key file is too small for this test")
	}

	p = start(t, "serve", "--config", file)
	polltest.Until(t, "it serves", func() bool { return strings.Contains(p.Log(), "msg=serving") })
	p.Signal(syscall.SIGHUP)
	polltest.Until(t, "it reloads", func() bool { return strings.Contains(p.Log(), "reloading") })
	p.Signal(syscall.SIGTERM)
	stopped(t, p, "while it reads the keys again")
	if strings.Contains(p.Log(), "reloaded the keys") {
		t.Fatal("it reloaded already: the key file is too small for this test")
	}
}

// stopped checks that the process exits promptly, with success.
func stopped(t *testing.T, p *process, when string) {
	t.Helper()
	began := time.Now()
	if code := p.Wait(); code != 0 {
		t.Errorf("%s: exit code %d", when, code)
	}
	t.Logf("%s: stopped in %s", when, time.Since(began))
}
