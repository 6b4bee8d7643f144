// Package redistest starts real Redis servers for tests: on free ports of the loopback
// address, in temporary folders, as an unprivileged user. They end with the test.
package redistest

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"extauthz/proctest"
)

// A Server is one redis-server process. Its methods fail the test on errors. It is not safe for concurrent
// use.
type Server struct {
	t       testing.TB
	dir     string // its working folder
	port    string
	args    []string
	process *proctest.Process // nil while it is not running
}

// Start starts a server that syncs every write to its folder. The settings are additional arguments, such as
// "--requirepass", "secret".
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	return start(t, append([]string{"--appendonly", "yes", "--appendfsync", "always"}, settings...))
}

// start starts redis-server with common arguments and args.
func start(t testing.TB, args []string) *Server {
	t.Helper()
	s := &Server{t: t, dir: folder(t), port: freePort(t)}
	first := 0
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") { // a configuration file
		first = 1
	}
	s.args = append(append(args[:first:first],
		"--port", s.port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--daemonize", "no",
		"--unixsocket", s.Socket(), "--unixsocketperm", "777"), args[first:]...)
	s.Restart()
	return s
}

// Addr returns where the server listens, as host:port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", s.port) }

// URL returns the server's address as a URL.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Socket returns the path of the unix socket on which the server listens too.
func (s *Server) Socket() string { return filepath.Join(s.dir, "redis.sock") }

// Port returns the port that the server listens on.
func (s *Server) Port() string { return s.port }

// Wipe deletes the data of a server that is not running.
func (s *Server) Wipe() {
	s.t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
			s.t.Fatal(err)
		}
	}
}

// Kill ends the process by SIGKILL, as a crash does, and waits until it is gone.
func (s *Server) Kill() {
	if s.process != nil {
		s.process.Kill()
		s.process = nil
	}
}

// Restart stops the server if it is running, starts it with the data in its folder, and waits until it
// answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	cmd := exec.Command(binary(s.t, "redis-server"), s.args...) //nolint:noctx // it ends after all cleanups that need it
	cmd.Dir = s.dir
	if uid, gid, ok := unprivileged(s.t); ok {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	}
	s.process = proctest.Start(s.t, "redis-server", cmd, func() error {
		reply, err := s.try("PING")
		if strings.HasPrefix(reply, "PONG") || strings.Contains(reply, "NOAUTH") {
			return nil
		}
		return errors.Join(errors.New(reply), err)
	})
}

// Pause stops the process by SIGSTOP: its connections stay, and nothing answers on them.
func (s *Server) Pause() { s.process.Signal(syscall.SIGSTOP) }

// Resume continues a paused process.
func (s *Server) Resume() { s.process.Signal(syscall.SIGCONT) }

// CLI returns what redis-cli prints for a command, without the line's end.
func (s *Server) CLI(command ...string) string {
	s.t.Helper()
	out, err := s.try(command...)
	if err != nil {
		s.t.Fatalf("redis-cli %s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return out
}

func (s *Server) try(command ...string) (string, error) {
	out, err := exec.CommandContext(s.t.Context(), binary(s.t, "redis-cli"), append([]string{"-e", "-p", s.port}, command...)...).CombinedOutput()
	return strings.TrimRight(string(out), "\n"), err
}

// binary returns the path of a program that the system's Redis package installs.
func binary(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: run make test, which installs Redis", name)
	}
	return path
}

// folder returns a temporary folder that the servers' user can work in.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "redistest") //nolint:usetesting // only root can enter those of t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	give(t, dir)
	return dir
}

// give makes the servers' user the owner of a file.
func give(t testing.TB, path string) {
	t.Helper()
	if uid, gid, ok := unprivileged(t); ok {
		if err := os.Chown(path, int(uid), int(gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// unprivileged returns the user that a server must run as; ok is false if the test is not root.
func unprivileged(t testing.TB) (uid, gid uint32, ok bool) {
	t.Helper()
	if os.Getuid() != 0 {
		return 0, 0, false
	}
	for _, name := range []string{"redis", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
			gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
			if uidErr == nil && gidErr == nil {
				return uint32(uid), uint32(gid), true
			}
		}
	}
	t.Fatal("there is no user redis or nobody to run a server as")
	return 0, 0, false
}

// freePort returns a free port of the loopback address.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}
