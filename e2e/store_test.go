package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"extauthz/e2e/harness"
	"extauthz/keystore"
	"extauthz/keystore/postgres/pgtest"
	"extauthz/polltest"
	"extauthz/redisclient/redistest"
)

// A database holds the keys of several extauthz.
type database struct {
	addr    string
	store   func(addr string) string                       // the store field of a configuration that reaches it there
	disable func(t *testing.T, id string, h keystore.Hash) // as the database's own tools do
	empty   func(t *testing.T)
	kill    func()
	restart func(t *testing.T)
}

var databases = map[string]func(t *testing.T) database{
	"postgres": func(t *testing.T) database {
		s := pgtest.Start(t)
		return database{
			addr:  s.Addr(),
			store: func(addr string) string { return `{postgres: {dsn: "` + s.URL("postgres", addr) + `"}}` },
			disable: func(t *testing.T, id string, _ keystore.Hash) {
				s.Exec(t, "postgres", `UPDATE extauthz.keys SET enabled = false WHERE id = $1`, id)
			},
			empty: func(t *testing.T) {
				s.Exec(t, "postgres", `DROP SCHEMA IF EXISTS extauthz CASCADE`)
			},
			kill:    s.Kill,
			restart: func(t *testing.T) { s.Restart(t) },
		}
	},
	"redis": func(t *testing.T) database {
		s := redistest.Start(t)
		return database{
			addr:  s.Addr(),
			store: func(addr string) string { return `{redis: {url: "redis://` + addr + `"}}` },
			disable: func(_ *testing.T, id string, h keystore.Hash) {
				s.CLI("SET", "{extauthz}:key:"+h.String(), `{"id":"`+id+`","enabled":false}`)
			},
			empty:   func(*testing.T) { s.CLI("FLUSHALL") },
			kill:    s.Kill,
			restart: func(*testing.T) { s.Restart() },
		}
	},
}

// replicas are two extauthz over one database, behind one Envoy.
type replicas struct {
	front string
	link  *link  // between them and the database
	file  string // a configuration that reaches the database directly
}

// fill empties the database, writes these keys into it, and returns what changes them.
func (db database) fill(t *testing.T, keys string) replicas {
	t.Helper()
	r := replicas{file: filepath.Join(t.TempDir(), "extauthz.yaml")}
	writeFile(t, r.file, "store: "+db.store(db.addr)+"\n")
	db.empty(t)
	r.command(t, "", "store", "migrate")
	r.command(t, keys, "key", "import", "--from", "-")
	return r
}

func startReplicas(t *testing.T, db database, keys string) replicas {
	t.Helper()
	r := db.fill(t, keys)
	r.link = newLink(t, db.addr)
	// With this ttl, only a change that the store reports is visible during the test.
	settings := harness.Settings{Config: "cache: {ttl: 10m, negative_ttl: 1s, lookup_timeout: 1s}\nstore: " + db.store(r.link.addr())}
	servers := []string{harness.StartExtauthz(t, settings).Addr, harness.StartExtauthz(t, settings).Addr}
	r.front = gateway{Servers: servers, Upstream: harness.StartUpstream(t).Addr}.start(t).Addr("front")
	return r
}

// command runs extauthz on the database and returns its output.
func (r replicas) command(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), harness.Extauthz(t), append(args, "--config", r.file)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("extauthz %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// decide waits until enough consecutive requests to reach both replicas get this code.
func (r replicas) decide(t *testing.T, secret keystore.Secret, code string) {
	t.Helper()
	polltest.NoError(t, func() error { return r.decides(t, secret, code) })
}

func (r replicas) decides(t *testing.T, secret keystore.Secret, code string) error {
	t.Helper()
	for range 8 {
		got := send(t, r.front, call{header: headers("X-Api-Key", string(secret))})
		if got.status == 200 && code == "VALID" || strings.Contains(got.body, `"code":"`+code+`"`) {
			continue
		}
		return fmt.Errorf("got %d %s, want %s", got.status, got.body, code)
	}
	return nil
}

// Two replicas share a database: a change takes effect on both, and while the database is unavailable,
// cached keys work and no others do.
func TestReplicasOverOneStore(t *testing.T) {
	t.Parallel()
	for kind, open := range databases {
		t.Run(kind, func(t *testing.T) {
			db := open(t)
			secrets := map[string]keystore.Secret{}
			records := "keys:\n"
			for _, id := range []string{"key_command", "key_plain", "key_cut", "key_stays"} {
				secrets[id] = keystore.Secret("sk_" + id)
				records += record(id, secrets[id])
			}
			const stranger = keystore.Secret("sk_stranger")
			r := startReplicas(t, db, records)
			for _, s := range secrets {
				r.decide(t, s, "VALID")
			}

			start := time.Now()
			r.command(t, "", "key", "disable", "key_command")
			r.decide(t, secrets["key_command"], "DISABLED")
			t.Logf("disabled by extauthz key: both replicas refuse after %s, with the start of the command", time.Since(start))
			start = time.Now()
			db.disable(t, "key_plain", secrets["key_plain"].Hash())
			r.decide(t, secrets["key_plain"], "DISABLED")
			t.Logf("disabled in the database: both replicas refuse after %s", time.Since(start))

			r.link.set(true)
			for _, id := range []string{"key_cut", "key_stays"} {
				if err := r.decides(t, secrets[id], "VALID"); err != nil {
					t.Errorf("a known key, cut off from the database: %v", err)
				}
			}
			r.decide(t, stranger, "UNAVAILABLE")
			r.command(t, "", "key", "disable", "key_cut")
			r.link.set(false)
			r.decide(t, secrets["key_cut"], "DISABLED")
			r.decide(t, stranger, "NOT_FOUND")
			r.decide(t, secrets["key_stays"], "VALID")

			db.kill()
			if err := r.decides(t, secrets["key_stays"], "VALID"); err != nil {
				t.Errorf("a known key, without a database: %v", err)
			}
			r.decide(t, "sk_another", "UNAVAILABLE")
			db.restart(t)
			r.decide(t, "sk_another", "NOT_FOUND")
			r.decide(t, secrets["key_stays"], "VALID")
			r.decide(t, secrets["key_plain"], "DISABLED")
		})
	}
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
