package harness

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"extauthz/proctest"
)

// Settings configure an extauthz. The zero value has the built-in defaults and no keys. The configuration
// must log at level info, because the addresses are read from the log.
type Settings struct {
	// Keys is the text of the key file.
	Keys string

	// Config is the configuration file without `listen` and `admin`, which are added. A `store` with the
	// key file is added if Config has none.
	Config string

	// Listen is the address of the gRPC service, which may be unix:PATH. By default the system chooses a
	// port. A server that will be restarted needs a [FreeAddr].
	Listen string

	Env []string // additional environment variables, as NAME=value
}

// A Server is a running extauthz.
type Server struct {
	*proctest.Process
	Addr  string // of the gRPC service: host:port, or unix:PATH
	Admin string // host:port of the admin listener
	Dir   string // holds extauthz.yaml and keys.yaml

	settings Settings
}

// StartExtauthz starts the binary and waits until /readyz succeeds.
func StartExtauthz(t testing.TB, s Settings) *Server {
	t.Helper()
	if s.Keys == "" {
		s.Keys = "keys: []\n"
	}
	server := &Server{Dir: t.TempDir(), settings: s}
	config := fmt.Sprintf("listen: %q\nadmin: {listen: 127.0.0.1:0}\n%s\n", cmp.Or(s.Listen, "127.0.0.1:0"), s.Config)
	if !strings.Contains("\n"+s.Config, "\nstore:") {
		config += "store: {yaml: {path: keys.yaml}}\n"
	}
	writeFile(t, filepath.Join(server.Dir, "extauthz.yaml"), config)
	server.WriteKeys(t, s.Keys)
	server.start(t)
	return server
}

func (s *Server) start(t testing.TB) {
	t.Helper()
	cmd := exec.Command(Extauthz(t), "serve", "--config", filepath.Join(s.Dir, "extauthz.yaml"))
	cmd.Env = append(os.Environ(), s.settings.Env...)
	p := proctest.Start(t, "extauthz", cmd, nil)
	p.Await(func() error {
		m := servingLine.FindStringSubmatch(p.Log())
		if m == nil {
			return errors.New("no addresses in the log")
		}
		s.Addr, s.Admin = m[1], m[2]
		return ready("http://" + s.Admin + "/readyz")
	})
	s.Process = p
}

// servingLine matches the addresses of the listeners in both formats of the log.
var servingLine = regexp.MustCompile(`\bserving"? ?.*\blisten"?[=:]"?([^" ]+)"?[ ,].*\badmin"?[=:]"?([^" ]+)`)

// Restart starts a killed or stopped server again on the same address, with the current files.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if s.Running() {
		t.Fatal("extauthz still runs: stop it or kill it before it is started again")
	}
	if s.settings.Listen == "" {
		t.Fatal("another port would be chosen: start extauthz with Settings.Listen")
	}
	s.start(t)
}

// WriteKeys replaces the key file, by a rename.
func (s *Server) WriteKeys(t testing.TB, keys string) {
	t.Helper()
	path := filepath.Join(s.Dir, "keys.yaml")
	writeFile(t, path+".new", keys)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Metrics returns the text of /metrics.
func (s *Server) Metrics(t testing.TB) string {
	t.Helper()
	body, err := get("http://" + s.Admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// EnvoyAddress returns an address, host:port or unix:PATH, as the `address` of an endpoint in
// an Envoy configuration.
func EnvoyAddress(t testing.TB, addr string) string {
	t.Helper()
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return fmt.Sprintf("{pipe: {path: %q}}", path)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("{socket_address: {address: %s, port_value: %s}}", host, port)
}
