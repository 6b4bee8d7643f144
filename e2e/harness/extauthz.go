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

// Settings say how an extauthz is started. The zero value has the built-in defaults and no keys. The
// configuration must log at level info, from which the addresses are read.
type Settings struct {
	// Keys is the text of the key file.
	Keys string

	// Config is more of the configuration file, without `listen`, `admin` and `store`,
	// which are added; `store` is only added where Config has none.
	Config string

	// Listen is where the gRPC service listens, unix:PATH too; by default a port that the system
	// chooses. One that is to be started again needs a [FreeAddr].
	Listen string

	Env []string // more environment, as NAME=value
}

// A Server is a running extauthz.
type Server struct {
	*proctest.Process
	Addr  string // of the gRPC service: host:port, or unix:PATH
	Admin string // host:port of the admin listener
	Dir   string // holds extauthz.yaml and keys.yaml

	settings Settings
}

// StartExtauthz starts the binary and waits until /readyz says yes.
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

// servingLine finds where the server listens, in either format of its log.
var servingLine = regexp.MustCompile(`\bserving"? ?.*\blisten"?[=:]"?([^" ]+)"?[ ,].*\badmin"?[=:]"?([^" ]+)`)

// Restart starts it again on the same address, with the files as they are now, after it was killed or
// stopped.
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
