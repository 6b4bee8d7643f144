package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"extauthz/certtest"
	"extauthz/keystore"
	"extauthz/polltest"
	"extauthz/redisclient/redistest"
)

// replyTo returns the whole reply to a request as JSON.
func replyTo(t *testing.T, conn *grpc.ClientConn, secret, path string) string {
	t.Helper()
	req, resp := message(t, "CheckRequest"), message(t, "CheckResponse")
	text := fmt.Sprintf(`{"attributes": {
		"source": {"address": {"socketAddress": {"address": "10.1.2.3", "portValue": 1234}}},
		"request": {"http": {"method": "GET", "host": "api.example.com", "path": %q,
			"headers": {":path": %[1]q, "x-api-key": %q, "x-forwarded-for": "198.51.100.7, 10.1.2.3"}}}}}`, path, secret)
	if err := protojson.Unmarshal([]byte(text), req); err != nil {
		t.Fatal(err)
	}
	return invoke(t, conn, req, resp)
}

func invoke(t *testing.T, conn *grpc.ClientConn, req, resp proto.Message) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), polltest.Patience)
	defer cancel()
	if err := conn.Invoke(ctx, "/envoy.service.auth.v3.Authorization/Check", req, resp, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(`\"`, `"`, " ", "").Replace(protojson.Format(resp))
}

// configured starts a server with a configuration file in a new folder.
func configured(t *testing.T, fields string) (p *process, file string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "extauthz.yaml")
	keys := fmt.Sprintf("keys:\n  - {id: key_0, hash: %s, external_id: acme, roles: [editor], ip_whitelist: [10.0.0.0/8, 198.51.100.0/24]}\n"+
		"  - {id: key_1, hash: %s, ratelimits: [{name: requests, limit: 1000000, duration: 1h}]}\n",
		keystore.Secret(secretOne).Hash(), keystore.Secret(secretTwo).Hash())
	write(t, filepath.Join(dir, "keys.yaml"), keys)
	write(t, file, local+"store: {yaml: {path: keys.yaml}}\n"+fields)
	return serving(t, start(t, "serve", "--config", file)), file
}

// rewrite replaces the fields that configured wrote.
func rewrite(t *testing.T, file, fields string) {
	t.Helper()
	replace(t, file, local+"store: {yaml: {path: keys.yaml}}\n"+fields, 0o600)
}

// Each field that can change while a server runs is live, and no check is lost in the meantime.
func TestServeReloadsConfiguration(t *testing.T) {
	for _, c := range []struct {
		field         string
		before, after string // the fields of the file
		holds         func(t *testing.T, p *process) bool
	}{
		{"key_sources", "", "key_sources: [{header: x-other}]\n", func(t *testing.T, p *process) bool {
			return strings.Contains(replyTo(t, p.conn, secretOne, "/"), `"MISSING_KEY"`)
		}},
		{"forward_key", "", "forward_key: true\n", func(t *testing.T, p *process) bool {
			reply := replyTo(t, p.conn, secretOne, "/")
			return strings.Contains(reply, `"okResponse"`) && !strings.Contains(reply, `"x-api-key"`)
		}},
		{"client_address", "", "client_address: {from: x_forwarded_for, trusted_hops: 1}\n", func(t *testing.T, p *process) bool {
			return strings.Contains(replyTo(t, p.conn, secretOne, "/"), "198.51.100.7")
		}},
		{"set_path", "key_sources: [{query: api_key}]\n", "key_sources: [{query: api_key}]\nset_path: false\n", func(t *testing.T, p *process) bool {
			return strings.Contains(replyTo(t, p.conn, "", "/?api_key="+secretOne), `"queryParametersToRemove"`)
		}},
		{"statuses", "", "statuses: {NOT_FOUND: 404}\n", func(t *testing.T, p *process) bool {
			return strings.Contains(replyTo(t, p.conn, secretOther, "/"), "NotFound")
		}},
		{"routes", "", "routes: [{path_prefix: /things, permissions: admin}]\n", func(t *testing.T, p *process) bool {
			return strings.Contains(replyTo(t, p.conn, secretOne, "/things"), "INSUFFICIENT_PERMISSIONS")
		}},
		{"roles", "routes: [{path_prefix: /, permissions: write}]\n", "routes: [{path_prefix: /, permissions: write}]\nroles: {editor: [write]}\n", func(t *testing.T, p *process) bool {
			return strings.Contains(replyTo(t, p.conn, secretOne, "/"), `"okResponse"`)
		}},
		{"paths", "routes: [{path_prefix: /THINGS, permissions: admin}]\n", "routes: [{path_prefix: /THINGS, permissions: admin}]\npaths: {ignore_case: true}\n", func(t *testing.T, p *process) bool {
			return strings.Contains(replyTo(t, p.conn, secretOne, "/things"), "INSUFFICIENT_PERMISSIONS")
		}},
		{"external_ids", "", "external_ids: {acme: {ratelimits: [{name: all, limit: 1, duration: 1h}]}}\n", func(t *testing.T, p *process) bool {
			return strings.Contains(replyTo(t, p.conn, secretOne, "/"), "RATE_LIMITED")
		}},
		{"ratelimit headers", "", "ratelimit: {headers: ietf}\n", func(t *testing.T, p *process) bool {
			return strings.Contains(replyTo(t, p.conn, secretTwo, "/"), `"ratelimit-policy"`)
		}},
		{"ratelimit store", "ratelimit: {on_error: refuse}\n", "ratelimit: {on_error: refuse, store: redis, url: \"redis://127.0.0.1:1\"}\n", func(t *testing.T, p *process) bool {
			return strings.Contains(replyTo(t, p.conn, secretTwo, "/"), "UNAVAILABLE")
		}},
		{"dry_run", "", "dry_run: true\n", func(t *testing.T, p *process) bool {
			return strings.Contains(replyTo(t, p.conn, secretOther, "/"), `"okResponse"`) && p.metric(t, "extauthz_dry_run") == "1"
		}},
		{"no dry_run", "dry_run: true\n", "", func(t *testing.T, p *process) bool {
			return strings.Contains(replyTo(t, p.conn, secretOther, "/"), `"NOT_FOUND"`) && p.metric(t, "extauthz_dry_run") == "0"
		}},
		{"log format", "", "log: {format: json}\n", func(t *testing.T, p *process) bool {
			replyTo(t, p.conn, secretOther, "/")
			return strings.Contains(p.Log(), `{"time":`)
		}},
		{"log level", "", "log: {level: debug}\n", func(t *testing.T, p *process) bool {
			replyTo(t, p.conn, secretOne, "/seen")
			return strings.Contains(p.Log(), `code=VALID key_id=key_0`)
		}},
		{"log decisions", "", "log: {decisions: all}\n", func(t *testing.T, p *process) bool {
			before := strings.Count(p.Log(), "path=/counted")
			for range 300 {
				replyTo(t, p.conn, secretOther, "/counted")
			}
			return strings.Count(p.Log(), "path=/counted") > before+200
		}},
		{"grpc size", "", "grpc: {max_message_size: 1024}\n", func(t *testing.T, p *process) bool {
			return strings.Contains(replyTo(t, p.conn, secretOne, "/"+strings.Repeat("a", 2000)), "deniedResponse")
		}},
		{"grpc age", "", "grpc: {max_connection_age: 1s}\n", func(t *testing.T, p *process) bool {
			return strings.Contains(p.Log(), "changed=grpc")
		}},
		{"decision_log", "", "decision_log: {path: decisions.log, allowed: 1}\n", func(t *testing.T, p *process) bool {
			_, metrics := p.get(t, "/metrics")
			return strings.Contains(metrics, "\nextauthz_decision_log_written_total ") && p.metric(t, "extauthz_decision_log_written_total") != "0"
		}},
		{"no decision_log", "decision_log: {path: decisions.log, allowed: 1}\n", "", func(t *testing.T, p *process) bool {
			return p.metric(t, "extauthz_decision_log_written_total") == "0" && strings.Contains(p.Log(), "changed=decision_log")
		}},
		{"metrics", "", "metrics: {owners: 1}\n", func(t *testing.T, p *process) bool {
			_, metrics := p.get(t, "/metrics")
			return strings.Contains(metrics, `extauthz_owner_decisions_total{code="VALID",owner="acme"}`)
		}},
		{"tracing", "", "tracing: {endpoint: \"http://127.0.0.1:1\", ratio: 1}\n", func(t *testing.T, p *process) bool {
			_, metrics := p.get(t, "/metrics")
			return strings.Contains(metrics, "\nextauthz_tracing_spans_dropped_total ") && p.metric(t, "extauthz_tracing_spans_dropped_total") != "0"
		}},
		{"shutdown", "", "", func(t *testing.T, p *process) bool {
			return strings.Contains(p.Log(), "changed=shutdown")
		}},
		{"memory", "", "memory: {gc_percent: 77}\n", func(t *testing.T, p *process) bool {
			return p.metric(t, "go_gc_gogc_percent") == "77"
		}},
		{"admin.pprof", "", "", func(t *testing.T, p *process) bool { // see below
			status, _ := p.get(t, "/debug/pprof/")
			return status == 200
		}},
		{"usage", "usage: {path: usage.db}\n", "usage: {path: usage.db, record: true, flush: 100ms}\n", func(t *testing.T, p *process) bool {
			_, metrics := p.get(t, "/metrics")
			return strings.Contains(metrics, "\nextauthz_usage_rows_written_total ") && p.metric(t, "extauthz_usage_rows_written_total") != "0"
		}},
	} {
		t.Run(c.field, func(t *testing.T) {
			t.Parallel()
			p, file := configured(t, c.before)
			if c.holds(t, p) {
				t.Fatal("it holds before the configuration changes")
			}
			stop := loadOver(t, func() *grpc.ClientConn { return dial(t, p.listen) }, secretOne, secretOne, secretOther)
			began := time.Now()
			text := local + "store: {yaml: {path: keys.yaml}}\n" + c.after
			switch c.field {
			case "admin.pprof":
				text = strings.Replace(text, "admin: {", "admin: {pprof: true, ", 1)
			case "shutdown":
				text = strings.Replace(text, "{drain: 0s}", "{drain: 1s}", 1)
			}
			replace(t, file, text, 0o600)
			polltest.Until(t, "it is live", func() bool { return c.holds(t, p) })
			t.Logf("live after %s", time.Since(began))
			if c.field == "grpc age" {
				time.Sleep(3 * time.Second) // until connections were renewed
			}
			stop()
			if n := p.metric(t, `extauthz_config_reloads_total{result="success"}`); n != "1" {
				t.Errorf("%s reloads are counted", n)
			}
		})
	}
}

// A configuration with a mistake is not used at all, and the place of the mistake is logged.
func TestServeBadConfiguration(t *testing.T) {
	t.Parallel()
	p, file := configured(t, "")
	stop := load(t, p)
	failures := func() string { return p.metric(t, `extauthz_config_reloads_total{result="failure"}`) }
	for i, c := range []struct{ fields, want string }{
		{"dry_run: true\nstatuses: {NOT_FOUND: 200}\n", "extauthz.yaml:6:23: 200 is out of range"},
		{"dry_run: true\nunknown: 1\n", "extauthz.yaml:6:1: "},
		{"dry_run: true\nclient_address: {from: x_forwarded_for, trusted_proxies: [{file: none.txt}]}\n", "the file none.txt cannot be read"},
		{"dry_run: true\nratelimit: {store: redis, url: \"http://x\"}\n", "ratelimit: "},
	} {
		rewrite(t, file, c.fields)
		polltest.Until(t, c.want, func() bool { return strings.Contains(p.Log(), c.want) })
		if got := mustCheck(t, p.conn, secretOther, "10.1.2.3"); got != "NOT_FOUND" {
			t.Errorf("with %s: %s", c.fields, got)
		}
		if failures() != fmt.Sprint(i+1) || p.metric(t, "extauthz_config_last_reload_successful") != "0" {
			t.Errorf("%s failures are counted", failures())
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the file is missed", func() bool { return strings.Contains(p.Log(), "the configuration cannot be read") })
	rewrite(t, file, "statuses: {NOT_FOUND: 404}\n")
	polltest.Until(t, "a good file is used", func() bool { return strings.Contains(replyTo(t, p.conn, secretOther, "/"), "NotFound") })
	if p.metric(t, "extauthz_config_last_reload_successful") != "1" || p.metric(t, "extauthz_config_last_reload_success_timestamp_seconds") == "0" {
		t.Error("the good file is not counted")
	}
	stop()
	if n := strings.Count(p.Log(), "reloading the configuration failed"); n != 5 {
		t.Errorf("%d lines about 5 mistakes", n)
	}
}

// Fields that need a restart are logged, and the other changes are used.
func TestServeNamesWhatNeedsARestart(t *testing.T) {
	p, file := configured(t, "")
	text := "listen: 127.0.0.1:1\nadmin: {listen: none}\nshutdown: {drain: 0s}\nstore: {yaml: {path: other.yaml}}\nusage: {record: true, path: usage.db}\nstatuses: {NOT_FOUND: 404}\n"
	replace(t, file, text, 0o600)
	polltest.Until(t, "the rest is used", func() bool { return strings.Contains(replyTo(t, p.conn, secretOther, "/"), "NotFound") })
	polltest.Until(t, "it is named", func() bool {
		return strings.Contains(p.Log(), `restart the server to change these fields: the others are in use" fields="admin.listen listen store usage.path"`)
	})
	if got := mustCheck(t, p.conn, secretOne, "10.1.2.3"); got != "VALID" {
		t.Error(got)
	}
	p.Signal(syscall.SIGHUP)
	polltest.Until(t, "it is named again on SIGHUP", func() bool { return strings.Count(p.Log(), "restart the server") == 2 })
}

// A file of ranges in the configuration is watched like the configuration itself.
func TestServeFollowsRangeFiles(t *testing.T) {
	t.Parallel()
	p, file := configured(t, "")
	ranges := filepath.Join(filepath.Dir(file), "cdn.txt")
	write(t, ranges, "192.0.2.0/24\n")
	rewrite(t, file, "client_address: {from: x_forwarded_for, trusted_proxies: [{file: cdn.txt}]}\n")
	becomes := func(want string) {
		t.Helper()
		polltest.Until(t, want, func() bool { return strings.Contains(replyTo(t, p.conn, secretOne, "/"), `"client_address":"`+want) })
	}
	polltest.Until(t, "the configuration is used", func() bool { return strings.Contains(p.Log(), "changed=client_address") })
	becomes("10.1.2.3")
	stop := load(t, p)
	write(t, ranges, "10.0.0.0/8\n")
	becomes("198.51.100.7")
	stop()
	stop = load(t, p)
	write(t, ranges, "10.0.0.0/8\n10.1/16\n")
	polltest.Until(t, "the mistake is logged", func() bool { return strings.Contains(p.Log(), "cdn.txt:2:1: ") })
	becomes("198.51.100.7")
	write(t, ranges, "203.0.113.0/24\n")
	becomes("10.1.2.3")
	stop()
}

// The mode of a socket, the names of clients and the oldest version of TLS are live too.
func TestServeReloadsListener(t *testing.T) {
	pki := newPKI(t)
	write(t, pki.file("keys.yaml"), keyFile(secretOne))
	socket, file := pki.file("grpc.sock"), pki.file("extauthz.yaml")
	text := func(mode, name, version string) string {
		return fmt.Sprintf("listen: unix:%s\nadmin: {listen: none}\nshutdown: {drain: 0s}\nstore: {yaml: {path: keys.yaml}}\nsocket: {mode: %q}\n"+
			"tls: {cert_file: tls.crt, key_file: tls.key, client_ca_file: ca.crt, client_names: [%s], min_version: %q}\n", socket, mode, name, version)
	}
	write(t, file, text("0660", "a", "1.3"))
	p := start(t, "serve", "--config", file)
	polltest.Until(t, "it serves", func() bool { return strings.Contains(p.Log(), "msg=serving") })
	a := tlsClient(pki.servers.Pool(), pki.client(t, pki.clients, certtest.Certificate{Names: []string{"a"}}))
	b := tlsClient(pki.servers.Pool(), pki.client(t, pki.clients, certtest.Certificate{Names: []string{"b"}}))
	address := "unix:" + socket
	old := credentials.NewTLS(&tls.Config{
		RootCAs: pki.servers.Pool(), ServerName: "extauthz", MaxVersion: tls.VersionTLS12,
		Certificates: []tls.Certificate{pki.client(t, pki.clients, certtest.Certificate{Names: []string{"b"}})},
	})
	if !acceptsAt(t, address, a) || acceptsAt(t, address, b) || acceptsAt(t, address, old) {
		t.Fatal("the first configuration is not used")
	}
	both := tlsClient(pki.servers.Pool(), pki.client(t, pki.clients, certtest.Certificate{Names: []string{"a", "b"}}))
	stop := loadOver(t, func() *grpc.ClientConn {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(both))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}, secretOne, secretOther)
	replace(t, file, text("0600", "b", "1.2"), 0o600)
	polltest.Until(t, "the names change", func() bool {
		return acceptsAt(t, address, b) && !acceptsAt(t, address, a) && acceptsAt(t, address, old)
	})
	time.Sleep(time.Second) // until connections were renewed
	stop()
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// A volume of Kubernetes is replaced by a link that leads elsewhere.
func TestServeFollowsConfigMap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	version := func(name, fields string) {
		folder := filepath.Join(dir, name)
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(folder, "extauthz.yaml"), local+"store: {yaml: {path: /none.yaml}}\n"+fields)
		if err := os.Symlink(name, filepath.Join(dir, "..data.new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data.new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	keys, file := filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "extauthz.yaml")
	write(t, keys, keyFile(secretOne))
	version("v1", "")
	if err := os.Symlink("..data/extauthz.yaml", file); err != nil {
		t.Fatal(err)
	}
	p := serving(t, start(t, "serve", "--config", file, "--keys", keys))
	for status, name := range map[string]string{"404": "NotFound", "410": "Gone"} {
		version("v"+status, "statuses: {NOT_FOUND: "+status+"}\n")
		polltest.Until(t, name, func() bool { return strings.Contains(replyTo(t, p.conn, secretOther, "/"), name) })
	}
	// Flags override the file at each reload.
	if got := mustCheck(t, p.conn, secretOne, "10.1.2.3"); got != "VALID" {
		t.Error(got)
	}
}

// The sizes and times of the cache change without a restart, and its records stay.
func TestServeReloadsCache(t *testing.T) {
	rd := redistest.Start(t)
	file := filepath.Join(t.TempDir(), "extauthz.yaml")
	text := func(size int) string {
		return fmt.Sprintf("%sstore: {redis: {url: \"redis://%s\"}}\ncache: {size: %d, lookup_timeout: 2s}\n", local, rd.Addr(), size)
	}
	write(t, file, text(100))
	command(t, keyFile(secretOne, secretTwo, secretOther), "key", "import", "--from", "-", "--config", file)
	p := serving(t, start(t, "serve", "--config", file))
	for _, secret := range []string{secretOne, secretTwo, secretOther} {
		polltest.Until(t, "VALID", func() bool { return decision(t, p, secret, "10.1.2.3") == "VALID" })
	}
	rd.Kill()
	stop := load(t, p)
	replace(t, file, text(2), 0o600)
	polltest.Until(t, "the cache is smaller", func() bool { return p.metric(t, "extauthz_cache_records") == "2" })
	if got := decision(t, p, secretOne, "10.1.2.3"); got != "VALID" {
		t.Errorf("the key in use, without a store: %s", got)
	}
	stop()
}
