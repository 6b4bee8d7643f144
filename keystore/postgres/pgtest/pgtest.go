//go:build linux

// Package pgtest runs a PostgreSQL server for tests, which can stop, kill and freeze it.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Password is the password of the superuser postgres. It needs escapes in a URL.
const Password = "hunter2/?#@: %&'" //nolint:gosec // of test databases on loopback

// ErrMissing is the error on a machine without PostgreSQL.
var ErrMissing = errors.New("no PostgreSQL server is installed: run make test, which installs Postgres")

const patience = 60 * time.Second // on a busy machine

// A Server is a PostgreSQL server on a port of 127.0.0.1 and on a unix socket, with its data in a
// temporary folder. It does not run as root: if the tests do, it runs as postgres or nobody. It supports
// TLS, and requires the password. Of its methods, DSN, Database and CA are safe for concurrent use.
type Server struct {
	bin, dir  string
	settings  []string
	port      int
	as        *syscall.Credential // nil: the current user
	cmd       *exec.Cmd
	exited    chan struct{} // closed when cmd has ended
	databases atomic.Int64
	ca        authority
}

// Start returns a running server, which is stopped when the test ends. It fails the test if the server
// does not start. Settings, such as "fsync=on", override those for tests.
func Start(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	s, err := New(settings...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// New returns a running server, for a TestMain. It must be closed.
func New(settings ...string) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	as, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir, as: as, settings: settings}
	if err := s.init(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	if err := s.run(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// binaries returns the folder of the newest installed server.
func binaries() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if p, err := exec.LookPath("postgres"); err == nil {
		return filepath.Dir(p), nil
	}
	if len(found) == 0 {
		return "", ErrMissing
	}
	version := func(p string) int { n, _ := strconv.Atoi(strings.Split(p, "/")[4]); return n }
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
}

func unprivileged() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uidErr, gidErr)
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody")
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	if !filepath.IsAbs(name) {
		name = filepath.Join(s.bin, name)
	}
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"LC_ALL=C.UTF-8", "TZ=UTC", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return cmd
}

// init creates the server's data and settings.
func (s *Server) init() error {
	if err := s.writeTLS(); err != nil {
		return err
	}
	if err := os.WriteFile(s.path("password"), []byte(Password), 0o600); err != nil {
		return err
	}
	if s.as != nil {
		for _, p := range []string{s.dir, s.path("password"), s.path("server.key")} {
			if err := os.Chown(p, int(s.as.Uid), int(s.as.Gid)); err != nil {
				return err
			}
		}
	}
	out, err := s.command("initdb", "--pgdata="+s.path("data"), "--username=postgres", "--pwfile="+s.path("password"),
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	// The first matching rule applies.
	rules := s.path("data/pg_hba.conf")
	old, err := os.ReadFile(rules)
	if err != nil {
		return err
	}
	if err := os.WriteFile(rules, append([]byte("hostssl all "+CertUser+" all scram-sha-256 clientcert=verify-full\nhost all "+CertUser+" all reject\n"), old...), 0o600); err != nil {
		return err
	}
	// The port stays the same across restarts.
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	return l.Close()
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

// run starts the server and waits until it answers.
func (s *Server) run() error {
	log, err := os.OpenFile(s.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the server has its own descriptor
	args := []string{"-D", s.path("data"), "-p", strconv.Itoa(s.port)}
	for _, setting := range append([]string{
		// No setting may lose committed data when the processes are killed.
		"listen_addresses=127.0.0.1", "unix_socket_directories=" + s.dir, "max_connections=100",
		"fsync=off", "full_page_writes=off", "max_wal_size=4GB",
		"ssl=on", "ssl_cert_file=" + s.path("server.crt"), "ssl_key_file=" + s.path("server.key"), "ssl_ca_file=" + s.path("server.crt"),
	}, s.settings...) {
		args = append(args, "-c", setting)
	}
	s.cmd = s.command("postgres", args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	cmd, exited := s.cmd, make(chan struct{})
	s.exited = exited
	go func() { _ = cmd.Wait(); close(exited) }()
	return s.await()
}

func (s *Server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.DSN())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.exited:
			return fmt.Errorf("the server ended\n%s", s.Log())
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w\n%s", err, s.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Log returns what the server wrote.
func (s *Server) Log() string {
	b, _ := os.ReadFile(s.path("log"))
	return string(bytes.TrimSpace(b))
}

// CA returns the file of the certificate that signs the server's, for localhost and 127.0.0.1.
func (s *Server) CA() string { return s.path("server.crt") }

// Addr returns the server's TCP address.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// DSN returns the URL of the database postgres.
func (s *Server) DSN() string { return s.URL("postgres", s.Addr()) }

// URL returns the URL of a database through addr, such as that of a proxy.
func (s *Server) URL(database, addr string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", Password), Host: addr, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Database creates a database and returns its name. It is a copy of the database template, to which no
// one may be connected, or empty if template is "".
func (s *Server) Database(tb testing.TB, template string) string {
	tb.Helper()
	name := fmt.Sprintf("test_%d", s.databases.Add(1))
	if template == "" {
		template = "template0"
	}
	s.Exec(tb, "postgres", fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, template))
	return name
}

// Exec runs SQL in a database as psql would, on a connection of its own.
// It may be called from a Cleanup.
func (s *Server) Exec(tb testing.TB, database, sql string, args ...any) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL(database, s.Addr()))
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close(ctx) // only the statement's error matters
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		tb.Fatal(err)
	}
}
