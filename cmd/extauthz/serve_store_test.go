package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"extauthz/keystore"
	"extauthz/keystore/postgres/pgtest"
	"extauthz/polltest"
	"extauthz/redisclient/redistest"
)

// A database is a server that can be killed and restarted.
type database struct {
	store      string // the store field of a configuration
	passwords  []string
	kill       func()
	restart    func()
	breakKey   func(id string, h keystore.Hash) // makes the key's record invalid
	unmigrated bool
}

func databases(t *testing.T) map[string]database {
	t.Helper()
	pg, rd := pgtest.Start(t), redistest.Start(t, "--requirepass", redisPassword)
	name := pg.Database(t, "")
	dsn := pg.URL(name, pg.Addr())
	_, escaped, _ := strings.Cut(strings.TrimPrefix(dsn, "postgres://"), ":")
	escaped, _, _ = strings.Cut(escaped, "@")
	return map[string]database{
		"postgres": {
			store:      `{postgres: {dsn: "` + dsn + `"}}`,
			passwords:  []string{pgtest.Password, escaped},
			kill:       pg.Kill,
			restart:    func() { pg.Restart(t) },
			unmigrated: true,
			breakKey: func(id string, _ keystore.Hash) {
				pg.Exec(t, name, `UPDATE extauthz.keys SET ip_whitelist = '{}' WHERE id = $1`, id)
			},
		},
		"redis": {
			store:     `{redis: {url: "` + redisURL(rd) + `"}}`,
			passwords: []string{redisPassword},
			kill:      rd.Kill,
			restart:   rd.Restart,
			breakKey: func(id string, h keystore.Hash) {
				rd.CLI("-a", redisPassword, "--no-auth-warning", "SET", "{extauthz}:key:"+h.String(), `{"id":"`+id+`","ip_whitelist":[]}`)
			},
		},
	}
}

// command runs the program and returns its output.
func command(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(context.WithoutCancel(t.Context()), args, strings.NewReader(stdin), &stdout, &stderr); code != 0 {
		t.Fatalf("extauthz %s: exit code %d\n%s", strings.Join(args, " "), code, stderr.String())
	}
	return stdout.String()
}

// decision returns the code of a decision, or UNAVAILABLE if none could be made.
func decision(t *testing.T, p *process, secret, peer string) string {
	t.Helper()
	code := mustCheck(t, p.conn, secret, peer)
	if strings.Contains(code, "errorResponse") && strings.Contains(code, "UNAVAILABLE") {
		return "UNAVAILABLE"
	}
	return code
}

// A server that starts before its store waits for it, continues during an outage, and recovers without
// intervention.
func TestServeStoreOutage(t *testing.T) {
	t.Parallel()
	for kind, db := range databases(t) {
		t.Run(kind, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "extauthz.yaml")
			config := local + "cache: {ttl: 200ms, negative_ttl: 100ms, lookup_timeout: 2s}\nstore: " + db.store + "\n"
			write(t, file, config)
			db.kill()
			p := serve(t, config)

			status, body := p.get(t, "/readyz")
			polltest.Until(t, "a reason", func() bool {
				status, body = p.get(t, "/readyz")
				return strings.Contains(body, "the key store does not answer: "+kind)
			})
			if status != 503 || strings.Count(body, "\n") != 1 {
				t.Errorf("/readyz says %d %q", status, body)
			}
			if status, _ := p.get(t, "/healthz"); status != 200 {
				t.Errorf("/healthz says %d", status)
			}
			if got := healthOf(t, p.conn, ""); got != healthpb.HealthCheckResponse_NOT_SERVING {
				t.Errorf("the health is %s", got)
			}
			if got := decision(t, p, secretOne, "10.1.2.3"); got != "UNAVAILABLE" {
				t.Errorf("without a store: %s", got)
			}

			db.restart()
			if db.unmigrated {
				polltest.Until(t, "the reason is the schema", func() bool { _, body := p.get(t, "/readyz"); return strings.Contains(body, "extauthz store migrate") })
			}
			command(t, "", "store", "migrate", "--config", file)
			polltest.Until(t, "ready", func() bool { status, _ := p.get(t, "/readyz"); return status == 200 })
			polltest.Until(t, "serving", func() bool { return healthOf(t, p.conn, serviceName) == healthpb.HealthCheckResponse_SERVING })
			command(t, keyFile(secretOne, secretTwo), "key", "import", "--from", "-", "--config", file)
			decide := func(what, secret, want string) {
				t.Helper()
				polltest.Until(t, what+": "+want, func() bool { return decision(t, p, secret, "10.1.2.3") == want })
			}
			decide("a key", secretOne, "VALID")
			db.breakKey("key_1", keystore.Secret(secretTwo).Hash())
			decide("a broken record", secretTwo, "FORBIDDEN")
			polltest.Until(t, "the channel is up", func() bool { return p.metric(t, "extauthz_store_channel_up") == "1" })
			decide("a key", secretOne, "VALID")

			db.kill()
			polltest.Until(t, "the channel is down", func() bool { return p.metric(t, "extauthz_store_channel_up") == "0" })
			for range 5 {
				if got := decision(t, p, secretOne, "10.1.2.3"); got != "VALID" {
					t.Errorf("a known key, without a store: %s", got)
				}
			}
			decide("an unknown key", secretOther, "UNAVAILABLE")
			polltest.Until(t, "a stale answer is counted", func() bool {
				decision(t, p, secretOne, "10.1.2.3")
				return p.metric(t, `extauthz_cache_lookups_total{result="stale"}`) != "0"
			})
			if status, _ := p.get(t, "/readyz"); status != 200 {
				t.Errorf("/readyz says %d when the store is lost", status)
			}
			if p.metric(t, "extauthz_cache_store_errors_total") == "0" || p.metric(t, "extauthz_cache_store_outage") != "1" {
				t.Error("the outage is not counted")
			}

			db.restart()
			decide("an unknown key", secretOther, "NOT_FOUND")
			if got := command(t, "", "key", "disable", "key_0", "--config", file); got != "key_0: disabled\n" {
				t.Errorf("disable says %q", got)
			}
			decide("a revoked key", secretOne, "DISABLED")
			if n, _ := strconv.Atoi(p.metric(t, "extauthz_store_broken_records_total")); n < 1 {
				t.Error("the broken record is not counted")
			}
			p.Signal(syscall.SIGHUP)
			polltest.Until(t, "SIGHUP is obeyed", func() bool { return strings.Contains(p.Log(), "every cached key is looked up again") })
			decide("a revoked key", secretOne, "DISABLED")
			p.Signal(syscall.SIGTERM)
			if code := p.Wait(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			log := p.Log()
			for _, want := range []string{`msg="a key's record cannot be read whole, so it is refused" key_id=key_1`, `msg="the key store reports changes: they are live at once"`} {
				if !strings.Contains(log, want) {
					t.Errorf("the log lacks %s", want)
				}
			}
			for _, password := range db.passwords {
				if strings.Contains(log+body, password) {
					t.Errorf("the log holds the password %q", password)
				}
			}
		})
	}
}

// A store with invalid settings ends the program, and no command prints a password.
func TestStoreMistakes(t *testing.T) {
	for name, store := range map[string]string{
		"postgres port":  `{postgres: {dsn: "postgres://a:hunter2@127.0.0.1:port/a"}}`,
		"postgres mode":  `{postgres: {dsn: "host=127.0.0.1 password=hunter2 sslmode=maybe"}}`,
		"redis scheme":   `{redis: {url: "http://:hunter2@127.0.0.1"}}`,
		"redis database": `{redis: {url: "redis://:hunter2@127.0.0.1/one"}}`,
		"redis prefix":   `{redis: {url: "redis://:hunter2@127.0.0.1", prefix: "a b"}}`,
		"postgres down":  `{postgres: {dsn: "postgres://a:hunter2@127.0.0.1:1/a"}}`,
		"redis down":     `{redis: {url: "redis://:hunter2@127.0.0.1:1"}}`,
	} {
		file := filepath.Join(t.TempDir(), "extauthz.yaml")
		write(t, file, local+"store: "+store+"\n")
		down := strings.HasSuffix(name, "down")
		for _, args := range [][]string{
			{"serve"},
			{"validate"},
			{"check", "--secret", secretOne, "--ip", "10.1.2.3"},
			{"key", "list"},
			{"key", "show", "key_a"},
			{"key", "disable", "key_a"},
			{"key", "export"},
			{"key", "new"},
			{"key", "import", "--from", "-"},
			{"store", "migrate"},
		} {
			if down && args[0] == "serve" {
				continue // it waits
			}
			if args[0] == "store" && strings.HasPrefix(name, "redis") {
				continue // there is nothing to migrate
			}
			want := 1
			switch {
			case args[0] == "check":
				want = 2
			case args[0] == "validate" && down:
				want = 0 // with a warning
			}
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append(args, "--config", file), strings.NewReader(keyFile(secretOne)), &stdout, &stderr)
			if code != want || stderr.Len() == 0 || args[0] == "key" && stdout.Len() > 0 && args[1] != "list" {
				t.Errorf("%s: %v: exit code %d, want %d\n%s%s", name, args, code, want, stdout.String(), stderr.String())
			}
			if strings.Contains(stdout.String()+stderr.String(), "hunter2") {
				t.Errorf("%s: %v shows the password: %s", name, args, stderr.String())
			}
		}
	}
}
