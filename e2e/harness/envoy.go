package harness

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"extauthz/proctest"
)

// An EnvoyProcess is a running Envoy.
type EnvoyProcess struct {
	*proctest.Process
	Admin string // host:port of its admin interface

	t testing.TB
}

// StartEnvoy starts Envoy with this bootstrap configuration, and waits until it is live: until
// every cluster has had its first health check. Listeners are best given port_value: 0; see
// [EnvoyProcess.Addr]. The admin interface is added, on a free port. args are added to the
// command line.
func StartEnvoy(t testing.TB, config string, args ...string) *EnvoyProcess {
	t.Helper()
	dir := t.TempDir()
	file, adminFile := filepath.Join(dir, "envoy.yaml"), filepath.Join(dir, "admin")
	writeFile(t, file, config)
	cmd := exec.Command(Envoy(t), append([]string{
		"--config-path", file,
		"--config-yaml", "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}",
		"--admin-address-path", adminFile,
		"--disable-hot-restart", "--log-level", "warning",
	}, withConcurrency(args)...)...)
	cmd.Env = append(os.Environ(), moduleEnv(t))
	e := &EnvoyProcess{t: t}
	e.Process = proctest.Start(t, "envoy", cmd, func() error {
		admin, err := os.ReadFile(adminFile)
		if err != nil {
			return err
		}
		e.Admin = string(admin)
		return ready("http://" + e.Admin + "/ready")
	})
	return e
}

// withConcurrency gives Envoy one worker, unless args set the number.
func withConcurrency(args []string) []string {
	if slices.Contains(args, "--concurrency") {
		return args
	}
	return append([]string{"--concurrency", "1"}, args...)
}

// moduleEnv makes Envoy search the folder of the dynamic module that [Module] builds.
func moduleEnv(t testing.TB) string { return "ENVOY_DYNAMIC_MODULES_SEARCH_PATH=" + buildDir(Root(t)) }

// ValidateEnvoy returns Envoy's error about a bootstrap configuration, or nil.
func ValidateEnvoy(t testing.TB, config string) error {
	t.Helper()
	return ValidateEnvoyOf(t, Envoy(t), config)
}

// ValidateEnvoyOf is ValidateEnvoy with another Envoy.
func ValidateEnvoyOf(t testing.TB, envoy, config string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	writeFile(t, file, config)
	cmd := exec.Command(envoy, "--mode", "validate", "--config-path", file,
		"--log-level", "warning", "--disable-hot-restart")
	cmd.Env = append(os.Environ(), moduleEnv(t))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// Addr returns the address of the listener with this name: host:port, or the path of its unix
// socket.
func (e *EnvoyProcess) Addr(listener string) string {
	e.t.Helper()
	var list struct {
		Statuses []struct {
			Name         string `json:"name"`
			LocalAddress struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
				Pipe struct {
					Path string `json:"path"`
				} `json:"pipe"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal([]byte(e.AdminGet("/listeners?format=json")), &list); err != nil {
		e.t.Fatalf("Envoy's list of listeners: %v", err)
	}
	for _, s := range list.Statuses {
		if s.Name != listener {
			continue
		}
		if s.LocalAddress.Pipe.Path != "" {
			return s.LocalAddress.Pipe.Path
		}
		return net.JoinHostPort(s.LocalAddress.Socket.Address, strconv.Itoa(s.LocalAddress.Socket.Port))
	}
	e.t.Fatalf("Envoy has no listener with the name %q", listener)
	return ""
}

// AdminGet returns the answer of the admin interface, such as of /stats or /config_dump.
func (e *EnvoyProcess) AdminGet(path string) string {
	e.t.Helper()
	body, err := get("http://" + e.Admin + path)
	if err != nil {
		e.t.Fatalf("Envoy's admin interface: %v", err)
	}
	return body
}

// Stat returns a counter or gauge, such as cluster.extauthz.upstream_rq_total, or 0 if there is none with
// this name.
func (e *EnvoyProcess) Stat(name string) int {
	e.t.Helper()
	for line := range strings.Lines(e.AdminGet("/stats?filter=^" + name + "$")) {
		if _, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			n, err := strconv.Atoi(value)
			if err != nil {
				e.t.Fatalf("stat %s: %v", name, err)
			}
			return n
		}
	}
	return 0
}

var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get returns the body of a 200; everything else is an error.
func get(url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return string(body), err
}

func ready(url string) error {
	_, err := get(url)
	return err
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
