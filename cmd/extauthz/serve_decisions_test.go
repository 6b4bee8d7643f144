package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"extauthz/polltest"
	"extauthz/redisclient/redistest"
)

const envoyTrace = "0af7651916cd43dd8448eb211c80319c"

// decisionLines returns the decisions in a file.
func decisionLines(t *testing.T, path string) (lines []map[string]any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		lines = append(lines, fields)
	}
	return lines
}

func TestServeWritesDecisions(t *testing.T) {
	dir := t.TempDir()
	keys, file := filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "decisions.log")
	write(t, keys, keyFile(secretOne))
	p := serve(t, local+"store: {yaml: {path: "+keys+"}}\ndecision_log: {path: "+file+", allowed: 1}\n")
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+envoyTrace+"-b7ad6b7169203331-01")
	for _, c := range []struct{ secret, peer string }{{secretOne, "10.1.2.3"}, {secretOne, "11.1.2.3"}, {secretOther, "10.1.2.3"}, {"", "10.1.2.3"}} {
		if _, err := tryCheck(ctx, t, p.conn, c.secret, c.peer); err != nil {
			t.Fatal(err)
		}
	}
	polltest.Until(t, "four lines", func() bool { return len(decisionLines(t, file)) == 4 })
	for i, want := range []map[string]any{
		{"code": "VALID", "allowed": true, "key_id": "key_0", "client_address": "10.1.2.3", "stale": false},
		{"code": "FORBIDDEN", "allowed": false, "key_id": "key_0", "client_address": "11.1.2.3", "peer": "11.1.2.3"},
		{"code": "NOT_FOUND", "allowed": false, "key_id": nil, "trace_id": envoyTrace, "trace_id_from": "proxy"},
		{"code": "MISSING_KEY", "request_id": "req-1", "method": "GET", "host": "api.example.com", "path": "/things"},
	} {
		got := decisionLines(t, file)[i]
		for name, value := range want {
			if got[name] != value {
				t.Errorf("line %d: %s is %v, want %v", i, name, got[name], value)
			}
		}
	}
	p.Signal(syscall.SIGHUP)
	polltest.Until(t, "SIGHUP rotates", func() bool {
		rotated, _ := filepath.Glob(filepath.Join(dir, "decisions-*.log"))
		info, err := os.Stat(file)
		return len(rotated) == 1 && err == nil && info.Size() == 0
	})
	mustCheck(t, p.conn, secretOther, "10.1.2.3")
	p.Signal(syscall.SIGTERM)
	p.Wait()
	if n := len(decisionLines(t, file)); n != 1 {
		t.Errorf("%d lines at the end, want 1", n)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "decisions*"))
	for _, f := range files {
		if text, _ := os.ReadFile(f); strings.Contains(string(text), "4711") {
			t.Errorf("a secret is in %s", f)
		}
	}
}

// A decision on a record that the store cannot confirm is marked as stale.
func TestServeWritesStale(t *testing.T) {
	rd := redistest.Start(t)
	dir := t.TempDir()
	file, keys := filepath.Join(dir, "decisions.log"), filepath.Join(dir, "keys.yaml")
	write(t, keys, keyFile(secretOne))
	configuration := local + `store: {redis: {url: "redis://` + rd.Addr() + `"}}` + "\ncache: {ttl: 100ms, max_stale: 10m, lookup_timeout: 2s}\ndecision_log: {path: " + file + ", allowed: 1}\n"
	config := filepath.Join(dir, "extauthz.yaml")
	write(t, config, configuration)
	command(t, "", "key", "import", "--config", config, "--from", keys)
	p := serve(t, configuration)
	polltest.Until(t, "ready", func() bool { status, _ := p.get(t, "/readyz"); return status == 200 })
	if got := mustCheck(t, p.conn, secretOne, "10.1.2.3"); got != "VALID" {
		t.Fatal(got)
	}
	rd.Kill()
	polltest.Until(t, "a stale record answers", func() bool {
		if got := mustCheck(t, p.conn, secretOne, "10.1.2.3"); got != "VALID" {
			t.Fatal(got)
		}
		return p.metric(t, "extauthz_cache_oldest_stale_seconds") != "0"
	})
	polltest.Until(t, "its line says so", func() bool {
		lines := decisionLines(t, file)
		return lines[0]["stale"] == false && lines[len(lines)-1]["stale"] == true
	})
}

// With on_full: refuse, a request whose decision cannot be written is refused.
func TestServeRefusesUnwritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys.yaml")
	write(t, keys, keyFile(secretOne))
	p := serve(t, local+"store: {yaml: {path: "+keys+"}}\ndecision_log: {path: /dev/full, allowed: 1, on_full: refuse}\n")
	request, long := checkRequest(t, secretOne, "10.1.2.3"), message(t, "CheckRequest")
	if err := protojson.Unmarshal([]byte(`{"attributes": {"request": {"http": {"path": "/`+strings.Repeat("a", 1000)+`"}}}}`), long); err != nil {
		t.Fatal(err)
	}
	proto.Merge(request, long) // long lines fill the buffer soon
	polltest.Until(t, "the buffer is full", func() bool {
		for range 1000 {
			response := message(t, "CheckResponse")
			if err := p.conn.Invoke(t.Context(), "/envoy.service.auth.v3.Authorization/Check", request, response); err != nil {
				t.Fatal(err)
			}
			if text := protojson.Format(response); strings.Contains(text, "deniedResponse") && strings.Contains(text, "UNAVAILABLE") {
				return true
			}
		}
		return false
	})
	if p.metric(t, "extauthz_decision_log_dropped_total") == "0" || p.metric(t, "extauthz_decision_log_errors_total") == "0" {
		t.Error("nothing is counted")
	}
	if !strings.Contains(p.Log(), "writing the decision log failed") {
		t.Error("nothing is logged")
	}
}
