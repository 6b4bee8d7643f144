// Package examples_test runs what the examples' READMEs say, word for word, against the real
// Envoy, and holds docker-compose.yml against the files that it names.
package examples_test

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/examples/upstream/echo"
	"extauthz/polltest"
)

var stories = []string{"quickstart", "behind-load-balancer", "unix-socket", "per-route", "dry-run", "envoy-ratelimit"}

func TestREADMEs(t *testing.T) {
	for _, name := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := start(t, name)
			for _, c := range e.curls {
				status, body := c.send(t)
				if status != c.status {
					t.Errorf("%s\ngot %d, %s", c.line, status, body)
				}
				if missing := c.missing(body); len(missing) > 0 {
					t.Errorf("%s\nno %q in %s", c.line, missing, body)
				}
			}
			for _, p := range e.programs {
				p.Signal(os.Interrupt)
			}
		})
	}
}

// Every folder with an Envoy configuration is a story that the tests know.
func TestNoExampleIsLeftOut(t *testing.T) {
	files, err := filepath.Glob("*/envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, f := range files {
		folders = append(folders, filepath.Dir(f))
	}
	for _, name := range folders {
		if !slices.Contains(stories, name) && !slices.Contains(elsewhere, name) {
			t.Errorf("examples/%s is run by no test: name it in stories", name)
		}
	}
}

// elsewhere are the examples that have a test of their own.
var elsewhere = []string{"postgres", "redis"}

func TestFilesAreValid(t *testing.T) {
	for _, name := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := filepath.Glob(filepath.Join(name, "envoy*.yaml"))
			if err != nil || len(files) == 0 {
				t.Fatal(files, err)
			}
			for _, file := range files {
				if err := harness.ValidateEnvoy(t, readFile(t, file)); err != nil {
					t.Errorf("%s: %v", file, err)
				}
			}
			args := []string{"validate", "--keys", filepath.Join(name, "keys.yaml")}
			if config := filepath.Join(name, "extauthz.yaml"); exists(config) {
				args = []string{"validate", "--config", config}
			}
			if out, err := exec.CommandContext(t.Context(), harness.Extauthz(t), args...).CombinedOutput(); err != nil {
				t.Errorf("extauthz %s: %v\n%s", strings.Join(args, " "), err, out)
			}
		})
	}
}

// A real proxy that appends to x-forwarded-for stands in front of Envoy.
func TestBehindLoadBalancer(t *testing.T) {
	const listed, other = "127.0.0.9", "127.0.0.8"
	e := start(t, "behind-load-balancer")
	e.rewrite(t, "examples/behind-load-balancer/keys.yaml", "203.0.113.0/24", listed)

	envoy := &url.URL{Scheme: "http", Host: e.curls[0].url.Host}
	balancer := &http.Server{Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(envoy)
		r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
		r.SetXForwarded()
	}}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = balancer.Serve(listener) }() // ends with the listener
	t.Cleanup(func() { _ = balancer.Close() })

	through := curl{url: &url.URL{Scheme: "http", Host: listener.Addr().String(), Path: "/"}, header: http.Header{"X-Api-Key": {"demo_office"}}}
	straight := through
	straight.url = envoy
	from := func(c curl, source string, xff ...string) int {
		c.source, c.header = source, c.header.Clone()
		c.header["X-Forwarded-For"] = xff
		status, _ := c.send(t)
		return status
	}
	polltest.Until(t, "the changed whitelist is live", func() bool { return from(through, listed) == http.StatusOK })
	for _, c := range []struct {
		what string
		got  int
		want int
	}{
		{"through the balancer, with a made-up entry before its own", from(through, listed, "198.51.100.9"), 200},
		{"through the balancer, from another address", from(through, other), 403},
		{"through the balancer, claiming the listed address", from(through, other, listed), 403},
		{"around the balancer, claiming the listed address", from(straight, other, listed), 403},
		{"around the balancer, claiming it and the balancer", from(straight, other, listed+", 127.0.0.1"), 403},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %d, want %d", c.what, c.got, c.want)
		}
	}

	// One of the two servers goes without a word: no request is lost.
	e.programs[1].Kill()
	for range 50 {
		if got := from(through, listed); got != http.StatusOK {
			t.Fatalf("with one of two extauthz gone: got %d", got)
		}
	}
}

// Where extauthz is not asked, the route itself takes away what a caller pretends to be.
func TestPublicRouteTrustsNoIdentity(t *testing.T) {
	e := start(t, "per-route")
	c := e.curls[0]
	c.url = c.url.JoinPath("/")
	c.url.Path = "/public/logo"
	c.header = http.Header{
		"X-Extauthz-Key-Id": {"key_spoofed"}, "X-Extauthz-Client-Address": {"192.0.2.1"},
		"X-Extauthz-External-Id": {"spoofed"}, "X-Api-Key": {"demo_reader"},
	}
	status, body := c.send(t)
	if status != http.StatusOK {
		t.Fatalf("got %d, %s", status, body)
	}
	var sent echo.Request
	if err := json.Unmarshal([]byte(body), &sent); err != nil {
		t.Fatal(err)
	}
	for name := range sent.Headers {
		if strings.HasPrefix(name, "x-extauthz-") || name == "x-api-key" {
			t.Errorf("the upstream was sent %s: %q", name, sent.Headers[name])
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
