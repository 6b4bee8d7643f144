package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"extauthz/keystore/postgres"
	"extauthz/keystore/postgres/pgtest"
	"extauthz/keystore/redis/redistest"
)

// stores returns, by kind, the store field of a configuration of a fresh store.
func stores(t *testing.T) map[string]string {
	t.Helper()
	pg := pgtest.Start(t)
	dsn := pg.URL(pg.Database(t, ""), pg.Addr())
	if _, err := postgres.Migrate(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	rd := redistest.Start(t, "--requirepass", redisPassword)
	return map[string]string{
		"yaml":     `{yaml: {path: keys.yaml}}`,
		"postgres": `{postgres: {dsn: "` + dsn + `"}}`,
		"redis":    `{redis: {url: "` + redisURL(rd) + `", prefix: "test:"}}`,
	}
}

const redisPassword = "hunter2"

func redisURL(s *redistest.Server) string { return "redis://:" + redisPassword + "@" + s.Addr() }

// Every verb does the same on every kind of store.
func TestVerbs(t *testing.T) {
	for kind, store := range stores(t) {
		t.Run(kind, func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Dir:                 filepath.Join("testdata", "verbs"),
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"exits": exits, "decides": decides,
				},
				Setup: func(e *testscript.Env) error {
					e.Setenv("STORE", "--config=extauthz.yaml")
					return os.WriteFile(filepath.Join(e.WorkDir, "extauthz.yaml"), []byte("store: "+store+"\n"), 0o600)
				},
			})
		})
	}
}

// decides CODE FILE ADDR holds the decision for the secret in the file to be CODE.
func decides(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: decides CODE FILE ADDR")
	}
	secret := strings.TrimSpace(ts.ReadFile(args[1]))
	err := ts.Exec("extauthz", "check", ts.Getenv("STORE"), "--json", "--secret", secret, "--ip", args[2])
	if got := ts.ReadFile("stdout"); !strings.Contains(got, `"code":"`+args[0]+`"`) {
		ts.Fatalf("%v: %s%s", err, got, ts.ReadFile("stderr"))
	}
}
