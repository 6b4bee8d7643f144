package examples_test

import (
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/polltest"
	"extauthz/proctest"
)

// demo returns the command that `make demo` runs, with other ports, and the addresses that it listens on.
func demo(t *testing.T, env ...string) (cmd *exec.Cmd, addrs []string) {
	t.Helper()
	tr := newTree(t, func(text string) string { return text }, "quickstart")
	cmd = exec.CommandContext(t.Context(), "python3", filepath.Join(tr.dir, "examples/quickstart/demo.py"))
	cmd.Env = append(os.Environ(), env...)
	for _, name := range []string{"ENVOY_PORT", "EXTAUTHZ_PORT", "ADMIN_PORT", "DASHBOARD_PORT", "UPSTREAM_PORT"} {
		addr := harness.FreeAddr(t)
		_, port, _ := net.SplitHostPort(addr)
		cmd.Env = append(cmd.Env, name+"="+port)
		addrs = append(addrs, addr)
	}
	return cmd, addrs
}

func TestDemoOnce(t *testing.T) {
	t.Parallel()
	cmd, addrs := demo(t, "ONCE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"200", "403 FORBIDDEN", "401 MISSING_KEY", "401 NOT_FOUND", "401 DISABLED", "401 EXPIRED", `"code":"FORBIDDEN"`, "x-extauthz-key-id: key_listed", "x-extauthz-client-address: 127.0.0.1"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in what the demo shows:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "\033") || strings.Contains(string(out), "key_spoofed") {
		t.Errorf("colours without a terminal, or a spoofed identity:\n%s", out)
	}
	checkGone(t, addrs)
}

func TestDemoEndsOnInterrupt(t *testing.T) {
	t.Parallel()
	cmd, addrs := demo(t)
	p := proctest.Start(t, "demo", cmd, nil)
	polltest.Until(t, "the demo is up", func() bool {
		return !p.Running() || strings.Contains(p.Log(), "Ctrl-C stops everything")
	})
	followDashboardLink(t, p.Log())
	p.Signal(syscall.SIGINT)
	if code := p.Wait(); code != 0 {
		t.Errorf("the demo ended with %d:\n%s", code, p.Log())
	}
	checkGone(t, addrs)
}

func TestDemoTellsOfAPortInUse(t *testing.T) {
	t.Parallel()
	cmd, addrs := demo(t, "ONCE=1")
	listener, err := net.Listen("tcp", addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "set ENVOY_PORT") || strings.Contains(string(out), "Traceback") {
		t.Errorf("got %v and\n%s", err, out)
	}
}

func checkGone(t *testing.T, addrs []string) {
	t.Helper()
	for _, addr := range addrs {
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			t.Errorf("the demo left something behind: %v", err)
			continue
		}
		listener.Close()
	}
}

// followDashboardLink logs in at the dashboard by the link that the demo shows.
func followDashboardLink(t *testing.T, log string) {
	t.Helper()
	m := regexp.MustCompile(`(http://127\.0\.0\.1:\d+)/login\?token=(\S+)`).FindStringSubmatch(log)
	if m == nil {
		t.Fatalf("no link to the dashboard:\n%s", log)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Jar: jar}).PostForm(m[1]+"/login", url.Values{"token": {m[2]}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if page, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(page), "key_listed") {
		t.Errorf("the link leads to %s (%v):\n%s", resp.Status, err, page)
	}
}
