package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"extauthz/polltest"
)

// health runs the command and returns its exit code and its output.
func health(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	code := run(t.Context(), append([]string{"health"}, args...), nil, &out, &out)
	return code, out.String()
}

func TestHealth(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.yaml")
	write(t, keys, keyFile(secretOne))
	p := serve(t, strings.Replace(local, "0s", "1h", 1)+"store: {yaml: {path: "+keys+"}}\n")
	grpc, ready := []string{"--address", p.listen}, []string{"--ready", "--address", p.admin}
	for _, args := range [][]string{grpc, ready} {
		if code, out := health(t, args...); code != 0 || out != "ok\n" {
			t.Errorf("%v: exit code %d, %q", args, code, out)
		}
	}
	p.Signal(syscall.SIGTERM)
	polltest.Until(t, "it drains", func() bool { return strings.Contains(p.Log(), "msg=stopping") })
	for _, c := range []struct {
		args []string
		want string
	}{
		{grpc, "extauthz: " + p.listen + ": NOT_SERVING\n"},
		{ready, "extauthz: " + p.admin + ": stopping\n"},
		{[]string{"--address", "127.0.0.1:1"}, "connection refused"},
		{[]string{"--ready", "--address", "unix:/none/a.sock"}, "no such file or directory"},
		{[]string{"--address", "here"}, "--address: \"here\": not a listen address"},
	} {
		if code, out := health(t, c.args...); code != 1 || !strings.Contains(out, c.want) {
			t.Errorf("%v: exit code %d, %q, want %q", c.args, code, out, c.want)
		}
	}
}

// The addresses come from the configuration, including those of sockets and of a listener with TLS.
func TestHealthByConfiguration(t *testing.T) {
	pki := newPKI(t)
	write(t, pki.file("keys.yaml"), keyFile(secretOne))
	listeners := "listen: unix:" + pki.file("grpc.sock") + "\nadmin: {listen: \"unix:" + pki.file("admin.sock") + "\"}\nshutdown: {drain: 0s}\nstore: {yaml: {path: keys.yaml}}\n"
	for _, c := range []struct {
		tls  string
		code int
	}{
		{"", 0},
		{"tls: {cert_file: tls.crt, key_file: tls.key}\n", 0},
		{"tls: {cert_file: tls.crt, key_file: tls.key, client_ca_file: ca.crt}\n", 1},
	} {
		file := pki.file("extauthz.yaml")
		write(t, file, listeners+c.tls)
		p := start(t, "serve", "--config", file)
		polltest.Until(t, "it is ready", func() bool { code, _ := health(t, "--config", file, "--ready"); return code == 0 })
		if code, out := health(t, "--config", file); code != c.code || code == 1 && !strings.Contains(out, "use --ready") {
			t.Errorf("%q: exit code %d, %s", c.tls, code, out)
		}
		p.Signal(syscall.SIGTERM)
		p.Wait()
	}
	write(t, pki.file("other.yaml"), strings.Replace(listeners, "unix:"+pki.file("admin.sock"), "none", 1))
	if code, out := health(t, "--config", pki.file("other.yaml"), "--ready"); code != 1 || !strings.Contains(out, "has no admin listener") {
		t.Errorf("without an admin listener: exit code %d, %s", code, out)
	}
}
