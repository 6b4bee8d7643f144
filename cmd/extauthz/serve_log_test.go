package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"extauthz/polltest"
)

// silent starts a server with this stdout and stderr. It listens on sockets, so that the test need not read
// addresses from the log.
func silent(t *testing.T, configuration string, stdout, stderr *os.File) *process {
	t.Helper()
	dir := t.TempDir()
	file, keys, socket, admin := filepath.Join(dir, "extauthz.yaml"), filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "grpc.sock"), filepath.Join(dir, "admin.sock")
	write(t, keys, keyFile(secretOne))
	write(t, file, fmt.Sprintf("listen: unix:%s\nadmin: {listen: \"unix:%s\"}\nshutdown: {drain: 0s}\nstore: {yaml: {path: %s}}\n%s", socket, admin, keys, configuration))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "serve", "--config", file)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	p := startCommand(t, cmd)
	p.listen, p.admin = "unix:"+socket, admin
	p.conn = dial(t, p.listen)
	return p
}

// socketMetric returns the value of one line of the metrics of an admin listener on a socket.
func (p *process) socketMetric(t *testing.T, name string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", p.admin)
	}, DisableKeepAlives: true}}
	resp, err := client.Get("http://admin/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no metric %s", name)
	return ""
}

// A server continues after the readers of its log have exited, and counts lost lines.
func TestServeLogReaderEnds(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := silent(t, "", w, w)
	w.Close()
	// The reader sees the server start, then ends.
	lines := bufio.NewScanner(r)
	for lines.Scan() && !strings.Contains(lines.Text(), "msg=serving") {
	}
	r.Close()
	for range 3 {
		if got := mustCheck(t, p.conn, secretOther, "10.1.2.3"); got != "NOT_FOUND" {
			t.Errorf("a refused request is %s", got)
		}
	}
	p.Signal(syscall.SIGHUP)
	polltest.Until(t, "the lost lines are counted", func() bool {
		return p.socketMetric(t, `extauthz_log_lines_dropped_total`) != "0"
	})
	if got := mustCheck(t, p.conn, secretOne, "10.1.2.3"); got != "VALID" {
		t.Errorf("a valid request is %s", got)
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// If the reader of the log hangs, decisions are neither delayed nor changed, and the process can still stop.
func TestServeLogReaderHangs(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := silent(t, "log: {level: debug}\n", w, w)
	w.Close()
	const requests = 10_000
	began := time.Now()
	work := make(chan struct{}, requests)
	for range requests {
		work <- struct{}{}
	}
	close(work)
	done := make(chan string, 16)
	for range cap(done) {
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), polltest.Patience)
			defer cancel()
			for range work {
				if got, err := tryCheck(ctx, t, p.conn, secretOther, "10.1.2.3"); err != nil || got != "NOT_FOUND" {
					done <- fmt.Sprintf("a refused request is %s, %v", got, err)
					return
				}
			}
			done <- ""
		}()
	}
	for range cap(done) {
		if problem := <-done; problem != "" {
			t.Fatal(problem)
		}
	}
	t.Logf("%d refusals in %s", requests, time.Since(began))
	if p.socketMetric(t, `extauthz_log_lines_dropped_total`) == "0" {
		t.Error("no dropped line is counted")
	}
	p.Signal(syscall.SIGHUP)
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
