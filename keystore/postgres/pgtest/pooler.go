//go:build linux

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Pooler is a pgbouncer in front of a [Server].
type Pooler struct {
	port int
	dir  string
	cmd  *exec.Cmd
}

// StartPooler returns a running pgbouncer in this pool_mode (session, transaction or statement),
// which has size connections to the server for each database. It is stopped when the test ends.
func (s *Server) StartPooler(tb testing.TB, mode string, size int) *Pooler {
	tb.Helper()
	bin, err := exec.LookPath("pgbouncer")
	if err != nil {
		if bin = "/usr/sbin/pgbouncer"; !isFile(bin) {
			tb.Fatal(errors.New("no pgbouncer is installed: run make test, which installs it"))
		}
	}
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Pooler{port: l.Addr().(*net.TCPAddr).Port}
	_ = l.Close()
	if p.dir, err = os.MkdirTemp(s.dir, "pooler"); err != nil { //nolint:usetesting // the user that pgbouncer runs as may enter this folder
		tb.Fatal(err)
	}
	users := fmt.Sprintf("\"postgres\" \"%s\"\n", strings.ReplaceAll(Password, `"`, `""`))
	settings := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
admin_users = postgres
logfile = %s
pool_mode = %s
default_pool_size = %d
`, s.port, p.port, filepath.Join(p.dir, "users.txt"), filepath.Join(p.dir, "log"), mode, size)
	for file, text := range map[string]string{"users.txt": users, "pgbouncer.ini": settings} {
		if err := os.WriteFile(filepath.Join(p.dir, file), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	if s.as != nil {
		for _, path := range []string{p.dir, filepath.Join(p.dir, "users.txt"), filepath.Join(p.dir, "pgbouncer.ini")} {
			if err := os.Chown(path, int(s.as.Uid), int(s.as.Gid)); err != nil {
				tb.Fatal(err)
			}
		}
	}
	p.cmd = s.command(bin, filepath.Join(p.dir, "pgbouncer.ini"))
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	p.await(tb, s)
	return p
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// Addr returns the pooler's TCP address, for [Server.URL].
func (p *Pooler) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

func (p *Pooler) await(tb testing.TB, s *Server) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres", p.Addr()))
		if err == nil {
			_ = conn.Close(ctx)
			return
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
			tb.Fatalf("pgbouncer does not answer: %v\n%s", err, log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
