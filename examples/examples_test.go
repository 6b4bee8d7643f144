// Package examples_test runs the commands of the READMEs verbatim with a real Envoy.
package examples_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"extauthz/e2e/harness"
	"extauthz/examples/upstream/echo"
	"extauthz/polltest"
)

var stories = []string{"quickstart", "behind-load-balancer", "unix-socket", "per-route", "dry-run", "rollout", "envoy-ratelimit", "two-envoys", "mtls", insideEnvoy}

// insideEnvoy is the example without a server: its Envoy loads the dynamic module.
const insideEnvoy = "inside-envoy"

func TestREADMEs(t *testing.T) {
	for _, name := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newTree(t, ownPorts(t), name).runREADME(t, filepath.Join(name, "README.md"), "-e")
		})
	}
}

// Every folder with an Envoy configuration is an example that the tests run, and is in the index.
func TestNoExampleIsLeftOut(t *testing.T) {
	t.Parallel()
	index := readFile(t, "README.md")
	files, err := filepath.Glob("*/envoy*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := filepath.Dir(file); !slices.Contains(stories, name) && databases[name] == nil {
			t.Errorf("examples/%s is run by no test: name it in stories", name)
		} else if !strings.Contains(index, "]("+name+")") {
			t.Errorf("examples/README.md does not list %s", name)
		}
	}
}

func TestFilesAreValid(t *testing.T) {
	for _, name := range stories {
		if name == "mtls" {
			continue // its files are only valid with the certificates that its README creates
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := filepath.Glob(filepath.Join(name, "envoy*.yaml"))
			if err != nil || len(files) == 0 {
				t.Fatal(files, err)
			}
			if name == insideEnvoy {
				harness.Module(t)
			}
			for _, file := range files {
				text := strings.ReplaceAll(readFile(t, file), "value: examples/", "value: ") // this test runs in that folder
				if err := harness.ValidateEnvoy(t, text); err != nil {
					t.Errorf("%s: %v", file, err)
				}
			}
			run(t, harness.Extauthz(t), "validate", "--keys", filepath.Join(name, "keys.yaml"))
			configs, err := filepath.Glob(filepath.Join(name, "extauthz*.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			for _, config := range configs {
				run(t, harness.Extauthz(t), "validate", "--config", config)
			}
		})
	}
}

// start runs a README up to its first request, and returns the address of its Envoy. replace, old
// and new in turn, changes what the README says.
func start(t *testing.T, name string, replace ...string) (tr *tree, envoy string) {
	t.Helper()
	tr = newTree(t, ownPorts(t), name)
	return tr, tr.start(t, name, replace...)
}

func (tr *tree) start(t *testing.T, name string, replace ...string) (envoy string) {
	t.Helper()
	var setup strings.Builder
	for line := range strings.Lines(strings.Join(shellBlocks(t, filepath.Join(name, "README.md")), "")) {
		if parseExpectation(line).status != 0 {
			break
		}
		setup.WriteString(line)
	}
	p := tr.paste(t, "trap 'kill -KILL $(jobs -p); wait; exit' TERM\n"+strings.NewReplacer(replace...).Replace(setup.String())+"echo started; wait\n", "-e")
	t.Cleanup(func() { p.Stop() })
	polltest.Until(t, "the example has started", func() bool {
		if !p.Running() {
			t.Fatal("the README's shell has ended")
		}
		return strings.HasSuffix(p.Log(), "started\n")
	})
	return tr.replace("127.0.0.1:10000")
}

// get sends a request from a loopback address.
func get(t *testing.T, envoy, path, from string, header http.Header) (status int, body string) {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	client := http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	ctx, cancel := context.WithTimeout(t.Context(), polltest.Patience)
	defer cancel()
	request := (&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: envoy, Path: path}, Header: header}).WithContext(ctx)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// A real proxy that appends to x-forwarded-for is in front of Envoy.
func TestBehindLoadBalancer(t *testing.T) {
	t.Parallel()
	const listed, other = "127.0.0.9", "127.0.0.8"
	tr, envoy := start(t, "behind-load-balancer")
	tr.rewrite(t, "examples/behind-load-balancer/keys.yaml", "203.0.113.0/24", listed)
	balancer := startBalancer(t, envoy)
	from := func(address, source string, xff ...string) int {
		status, _ := get(t, address, "/", source, http.Header{"X-Api-Key": {"demo_office"}, "X-Forwarded-For": xff})
		return status
	}
	polltest.Until(t, "the changed whitelist is live", func() bool { return from(balancer, listed) == http.StatusOK })
	for _, c := range []struct {
		what string
		got  int
		want int
	}{
		{"through the balancer, with a made-up entry before its own", from(balancer, listed, "198.51.100.9"), 200},
		{"through the balancer, from another address", from(balancer, other), 403},
		{"through the balancer, claiming the listed address", from(balancer, other, listed), 403},
		{"around the balancer, claiming the listed address", from(envoy, other, listed), 403},
		{"around the balancer, claiming it and the balancer", from(envoy, other, listed+", 127.0.0.1"), 403},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %d, want %d", c.what, c.got, c.want)
		}
	}

	// One of the two servers is killed: no request is lost.
	if err := syscall.Kill(tr.pids(t, "extauthz")[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if got := from(balancer, listed); got != http.StatusOK {
			t.Fatalf("with one of two extauthz gone: got %d", got)
		}
	}
}

// startBalancer starts a proxy that appends the address of its peer to x-forwarded-for.
func startBalancer(t *testing.T, envoy string) (address string) {
	t.Helper()
	balancer := &http.Server{ReadHeaderTimeout: time.Minute, Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: envoy})
		r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
		r.SetXForwarded()
	}}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = balancer.Serve(listener) }() // ends with the listener
	t.Cleanup(func() { _ = balancer.Close() })
	return listener.Addr().String()
}

// The second of two Envoys reads the caller's address from x-forwarded-for, where the first appended it.
func TestTwoEnvoysByHops(t *testing.T) {
	t.Parallel()
	tr, envoy := start(t, "two-envoys", "extauthz-sidecar.yaml", "extauthz-sidecar-hops.yaml")
	tr.rewrite(t, "examples/two-envoys/keys.yaml", "limit: 2", "limit: 1000000")
	// Envoy appends an address of the machine in place of a loopback address.
	tr.rewrite(t, "examples/two-envoys/keys.yaml", "[127.0.0.1]", "[127.0.0.1, "+strings.Join(ownAddresses(t), ", ")+"]")
	header := http.Header{"X-Api-Key": {"demo_office"}}
	var body string
	polltest.Until(t, "the changed whitelist is live", func() bool {
		var status int
		status, body = get(t, envoy, "/", "127.0.0.1", header)
		return status == http.StatusOK
	})
	var sent echo.Request
	if err := json.Unmarshal([]byte(body), &sent); err != nil {
		t.Fatal(err)
	}
	caller, _, _ := strings.Cut(sent.Headers["x-forwarded-for"][0], ",")
	if got := sent.Headers["x-extauthz-client-address"]; len(got) != 1 || got[0] != caller {
		t.Errorf("the client address is %q, want %s", got, caller)
	}
	if got := sent.Headers["x-api-key"]; got != nil {
		t.Errorf("the upstream was sent the key")
	}

	tr.rewrite(t, "examples/two-envoys/keys.yaml", strings.Join(ownAddresses(t), ", "), "203.0.113.7")
	header.Set("X-Forwarded-For", "203.0.113.7")
	polltest.Until(t, "the changed whitelist is live", func() bool {
		status, body := get(t, envoy, "/", "127.0.0.1", header)
		return status == http.StatusForbidden && strings.Contains(body, "FORBIDDEN")
	})
}

// ownAddresses returns this machine's addresses, quoted for YAML.
func ownAddresses(t *testing.T) (addresses []string) {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		addresses = append(addresses, strconv.Quote(a.(*net.IPNet).IP.String()))
	}
	return addresses
}

// A route without a check removes the identity headers that a caller sends.
func TestPublicRouteTrustsNoIdentity(t *testing.T) {
	t.Parallel()
	_, envoy := start(t, "per-route")
	status, body := get(t, envoy, "/public/logo", "127.0.0.1", http.Header{
		"X-Extauthz-Key-Id": {"key_spoofed"}, "X-Extauthz-Client-Address": {"192.0.2.1"},
		"X-Extauthz-External-Id": {"spoofed"}, "X-Api-Key": {"demo_reader"},
	})
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

// An Envoy whose certificate has another name gets no response, and refuses every request.
func TestMutualTLSByAnotherName(t *testing.T) {
	t.Parallel()
	tr, envoy := start(t, "mtls", "envoy.example.com", "other.example.com", "extauthz.yaml &", "extauthz.yaml 2> log &",
		"-o /dev/null 127.0.0.1:10000", "--retry 0 -o /dev/null 127.0.0.1:10000 || true")
	polltest.Until(t, "Envoy listens", func() bool {
		conn, err := net.Dial("tcp", envoy)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if status, body := get(t, envoy, "/", "127.0.0.1", http.Header{"X-Api-Key": {"demo_here"}}); status != http.StatusServiceUnavailable {
		t.Errorf("got %d, %s", status, body)
	}
	polltest.Until(t, "the refused connection is logged", func() bool {
		log := readFile(t, filepath.Join(tr.dir, "log"))
		return strings.Contains(log, "refused a connection") && strings.Contains(log, "other.example.com")
	})
}

// While extauthz does not answer, a dry run lets every request through, without forged identity headers.
func TestDryRunWithoutExtauthz(t *testing.T) {
	t.Parallel()
	tr, envoy := start(t, "dry-run")
	if err := syscall.Kill(tr.pids(t, "extauthz")[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	status, body := get(t, envoy, "/", "127.0.0.1", http.Header{"X-Extauthz-Key-Id": {"key_admin"}, "X-Extauthz-Anything": {"1"}, "X-Api-Key": {"demo_partner"}})
	if status != http.StatusOK || strings.Contains(body, "x-extauthz-") {
		t.Errorf("got %d %s", status, body)
	}
}

// A caller's identity headers cannot select a route.
func TestNoRouteByAClaimedIdentity(t *testing.T) {
	t.Parallel()
	ports := ownPorts(t)
	tr := newTree(t, func(text string) string {
		return ports(strings.Replace(text, "                        - match: {path_separated_prefix: /public}\n",
			"                        - match: {prefix: /, headers: [{name: x-extauthz-key-id, present_match: true}]}\n"+
				"                          direct_response: {status: 418}\n"+
				"                        - match: {path_separated_prefix: /public}\n", 1))
	}, "per-route")
	if text := readFile(t, filepath.Join(tr.dir, "examples/per-route/envoy.yaml")); !strings.Contains(text, "418") {
		t.Fatal("the route is not there")
	}
	envoy := tr.start(t, "per-route")
	if status, body := get(t, envoy, "/public/logo", "127.0.0.1", http.Header{"X-Extauthz-Key-Id": {"key_admin"}}); status != http.StatusOK {
		t.Errorf("got %d %s", status, body)
	}
}
