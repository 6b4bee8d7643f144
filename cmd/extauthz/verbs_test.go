package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"extauthz/keystore"
	"extauthz/keystore/postgres"
	"extauthz/keystore/postgres/pgtest"
	"extauthz/redisclient/redistest"
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

// Every command does the same on every kind of store.
func TestVerbs(t *testing.T) {
	t.Parallel()
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

// decides CODE FILE ADDR checks that the decision for the secret in the file is CODE.
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

// Concurrent edits of a key file lose nothing.
func TestEditAtOnce(t *testing.T) {
	const each = 8
	file := filepath.Join(t.TempDir(), "keys.yaml")
	write(t, file, keyFile(secretOne))
	var editors []*process
	for i := range each {
		editors = append(editors,
			start(t, "key", "allow", "key_0", fmt.Sprintf("192.0.2.%d", i), "--keys", file),
			start(t, "key", "allow", "key_0", fmt.Sprintf("198.51.100.%d", i), "--keys", file))
	}
	for _, p := range editors {
		if code := p.Wait(); code != 0 {
			t.Errorf("exit code %d: %s", code, p.Log())
		}
	}
	shown := command(t, "", "key", "show", "key_0", "--json", "--keys", file)
	if n := strings.Count(shown, "192.0.2.") + strings.Count(shown, "198.51.100."); n != 2*each {
		t.Errorf("%d entries of %d are there: %s", n, 2*each, shown)
	}
}

// A record that cannot be read is reported, and the others work.
func TestBrokenRecord(t *testing.T) {
	t.Parallel()
	for kind, db := range databases(t) {
		file := filepath.Join(t.TempDir(), "extauthz.yaml")
		write(t, file, "store: "+db.store+"\n")
		command(t, "", "store", "migrate", "--config", file)
		command(t, keyFile(secretOne, secretTwo), "key", "import", "--from", "-", "--config", file)
		if got := command(t, "", "validate", "--config", file); got != "ok: 2 keys in "+kind+"\n" {
			t.Errorf("%s: validate says %q", kind, got)
		}
		db.breakKey("key_0", keystore.Secret(secretOne).Hash())
		if got := command(t, "", "key", "list", "--config", file); !strings.Contains(got, "unreadable: refused") || !strings.Contains(got, "key_1") {
			t.Errorf("%s: list says\n%s", kind, got)
		}
		if got := command(t, "", "key", "show", "key_0", "--config", file); !strings.Contains(got, "broken") {
			t.Errorf("%s: show says\n%s", kind, got)
		}
		for _, args := range [][]string{{"validate"}, {"key", "export"}, {"key", "allow", "key_0", "192.0.2.7", "--restrict"}} {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append(args, "--config", file), nil, &stdout, &stderr)
			if code != 1 || !strings.Contains(stderr.String(), "key_0") || !strings.Contains(stderr.String(), "neither") {
				t.Errorf("%s: %v: exit code %d\n%s%s", kind, args, code, stdout.String(), stderr.String())
			}
			if args[0] == "key" && args[1] == "export" && (!strings.Contains(stdout.String(), "key_1") || strings.Contains(stdout.String(), "key_0")) {
				t.Errorf("%s: export writes\n%s", kind, stdout.String())
			}
		}
		for _, c := range []struct{ flag, want string }{
			{"--overwrite=false", "0 added, 0 same, 1 different: left unchanged (--overwrite replaces them)\n"},
			{"--overwrite", "0 added, 0 same, 1 overwritten\n"},
		} {
			if got := command(t, keyFile(secretOne), "key", "import", "--from", "-", c.flag, "--config", file); got != c.want {
				t.Errorf("%s: import %s says %q", kind, c.flag, got)
			}
		}
		command(t, "", "validate", "--config", file)
		command(t, "", "key", "delete", "key_0", "--config", file)
	}
}

// An import that ends at a mistake reports its progress, and continues there the next time.
func TestImportGoesOn(t *testing.T) {
	t.Parallel()
	n, mistake := importBatch+2000, importBatch+1000
	var secrets []string
	for i := range n {
		secrets = append(secrets, fmt.Sprintf("sk_%d", i))
	}
	good := keyFile(secrets...)
	bad := strings.Replace(good, fmt.Sprintf("id: key_%d,", mistake), fmt.Sprintf("id: key %d,", mistake), 1)
	for kind, db := range databases(t) {
		file := filepath.Join(t.TempDir(), "extauthz.yaml")
		write(t, file, "store: "+db.store+"\n")
		command(t, "", "store", "migrate", "--config", file)
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), []string{"key", "import", "--from", "-", "--config", file}, strings.NewReader(bad), &stdout, &stderr)
		place := fmt.Sprintf("standard input:%d:10: id: ", mistake+2)
		after := regexp.MustCompile(`before that, up to the key (key_\d+): (\d+) added, 0 same, 0 different: --after (key_\d+) continues from there`).FindStringSubmatch(stderr.String())
		if code != 1 || stdout.Len() > 0 || !strings.HasPrefix(stderr.String(), place) || after == nil || after[1] != after[3] {
			t.Fatalf("%s: exit code %d\n%s%s", kind, code, stdout.String(), stderr.String())
		}
		done, _ := strconv.Atoi(after[2])
		if done < importBatch || done > mistake || after[1] != fmt.Sprintf("key_%d", done-1) {
			t.Errorf("%s: %d keys up to %s, want all before %d", kind, done, after[1], mistake)
		}
		want := fmt.Sprintf("%d added, 0 same, 0 different\n", n-done)
		if got := command(t, good, "key", "import", "--from", "-", "--after", after[3], "--config", file); got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
		if got := strings.Count(command(t, "", "key", "export", "--config", file), "- id:"); got != n {
			t.Errorf("%s: %d keys of %d", kind, got, n)
		}
	}
}
