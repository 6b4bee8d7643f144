package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"extauthz/polltest"
)

// publicDir returns a folder that every user may enter, unlike [testing.T.TempDir].
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "extauthz") //nolint:usetesting // other users cannot enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// replace replaces a file atomically with one that has this mode.
func replace(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	write(t, file+".new", text)
	if err := os.Chmod(file+".new", mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// publicBinary returns the path of a copy of this binary that every user can run.
func publicBinary(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(publicDir(t), "extauthz") // the folder of the test binary is for root alone
	if err := os.WriteFile(binary, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return binary
}

// serveUnprivileged starts the binary as a user who owns no files. The test has to run as root.
func serveUnprivileged(t *testing.T, keys string) *process {
	t.Helper()
	binary := publicBinary(t)
	cmd := exec.Command(binary, "serve", "--keys", keys, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	cmd.Dir = filepath.Dir(binary)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	return serving(t, startCommand(t, cmd))
}

func disabled(text string) string {
	return strings.ReplaceAll(text, "ip_whitelist:", "enabled: false, ip_whitelist:")
}

// A key file that cannot be read is reloaded as soon as it can be read.
func TestServeUnreadableKeyFile(t *testing.T) {
	t.Parallel()
	keys := filepath.Join(publicDir(t), "keys.yaml")
	replace(t, keys, keyFile(secretOne), 0o644)
	p := serveUnprivileged(t, keys)
	decides := func(what, want string) {
		t.Helper()
		polltest.Until(t, what+": "+want, func() bool { return mustCheck(t, p.conn, secretOne, "10.1.2.3") == want })
	}
	reloaded := func(want string) {
		t.Helper()
		polltest.Until(t, "extauthz_last_reload_successful "+want, func() bool { return p.metric(t, "extauthz_last_reload_successful") == want })
	}
	decides("at the start", "VALID")
	reloaded("1")
	if p.metric(t, "extauthz_last_reload_success_timestamp_seconds") == "0" {
		t.Error("no time of the first load")
	}

	replace(t, keys, disabled(keyFile(secretOne)), 0o600)
	reloaded("0")
	decides("while the file cannot be read", "VALID")
	for _, want := range []string{"permission denied for user 65532", "it belongs to user 0 and group 0, and its mode is 0600"} {
		if !strings.Contains(p.Log(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if err := os.Chmod(keys, 0o644); err != nil {
		t.Fatal(err)
	}
	decides("after chmod", "DISABLED")
	reloaded("1")
	logged(t, p, "level=ERROR", 1)
	logged(t, p, "msg=\"reloaded the keys\"", 1)

	if err := os.Chmod(keys, 0o600); err != nil { // the text is that in use
		t.Fatal(err)
	}
	reloaded("0")
	if err := os.Chmod(keys, 0o644); err != nil {
		t.Fatal(err)
	}
	reloaded("1")
	logged(t, p, "level=ERROR", 2)
	logged(t, p, "msg=\"reloaded the keys\"", 2)
}

func logged(t *testing.T, p *process, what string, times int) {
	t.Helper()
	if n := strings.Count(p.Log(), what); n != times {
		t.Errorf("%d lines with %s, want %d", n, what, times)
	}
}

// So is one that could not be read because there was no free file descriptor.
func TestServeWithoutDescriptors(t *testing.T) {
	t.Parallel()
	keys := filepath.Join(t.TempDir(), "keys.yaml")
	write(t, keys, keyFile(secretOne))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := serving(t, startCommand(t, exec.Command("sh", "-c", `ulimit -n 64; exec "$@"`, "sh", self, "serve", "--keys", keys, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")))
	if got := mustCheck(t, p.conn, secretOne, "10.1.2.3"); got != "VALID" {
		t.Fatal(got)
	}
	var conns []net.Conn
	polltest.Until(t, "the file cannot be read", func() bool {
		c, err := net.Dial("tcp", p.listen)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		if err := os.Chmod(keys, 0o600+os.FileMode(len(conns)%2)<<5); err != nil { // so that it is read again
			t.Fatal(err)
		}
		return strings.Contains(p.Log(), "too many open files")
	})
	replace(t, keys, disabled(keyFile(secretOne)), 0o600)
	time.Sleep(time.Second) // no descriptor is free when the server notices that
	for _, c := range conns {
		_ = c.Close()
	}
	polltest.Until(t, "DISABLED", func() bool { return mustCheck(t, p.conn, secretOne, "10.1.2.3") == "DISABLED" })
	if got := p.metric(t, "extauthz_last_reload_successful"); got != "1" {
		t.Errorf("extauthz_last_reload_successful %s", got)
	}
}

// A reload that removes every key causes a warning.
func TestServeReloadsNoKeys(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.yaml")
	write(t, keys, keyFile(secretOne))
	p := serve(t, local+"store: {yaml: {path: "+keys+"}}\n")
	write(t, keys, "keys: []\n")
	polltest.Until(t, "a warning", func() bool {
		return strings.Contains(p.Log(), `level=WARN msg="reloaded the keys: none is left`)
	})
	if got := mustCheck(t, p.conn, secretOne, "10.1.2.3"); got != "NOT_FOUND" {
		t.Error(got)
	}
}
