package examples_test

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/keystore/postgres/pgtest"
	"extauthz/keystore/redis/redistest"
	"extauthz/polltest"
)

// databases start, by story, what its README starts by docker, and return the address that the
// README has for it and the one that it has here.
var databases = map[string]func(t *testing.T) (written, here string){
	"postgres": func(t *testing.T) (written, here string) {
		s := pgtest.Start(t)
		s.Exec(t, "postgres", "CREATE ROLE extauthz LOGIN PASSWORD 'demo'")
		s.Exec(t, "postgres", "CREATE DATABASE extauthz OWNER extauthz")
		return "127.0.0.1:5432", s.Addr()
	},
	"redis": func(t *testing.T) (written, here string) { return "127.0.0.1:6379", redistest.Start(t).Addr() },
}

// The READMEs of the stores are run line by line, in order, for what is asked changes on the way.
func TestStoreREADMEs(t *testing.T) {
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			written, here := database(t)
			ports := replacer(t)
			replace := func(s string) string { return strings.ReplaceAll(ports(s), written, here) }
			e := &example{dir: t.TempDir()}
			e.copy(t, name, replace)
			envoy := readFile(t, filepath.Join(name, "envoy.yaml"))
			if err := harness.ValidateEnvoy(t, envoy); err != nil {
				t.Error(err)
			}
			curls := 0
			for _, line := range commands(t, name) {
				if strings.HasPrefix(line, "docker ") { // no container engine is here
					checkDocker(t, name, written, line)
					continue
				}
				words, comment := split(t, replace(line))
				switch {
				case words[0] == "make":
					checkTargets(t, words[1:])
				case words[0] == "curl":
					curls++
					e.await(t, parseCurl(t, line, words[1:], comment))
				case words[0] == "kill":
					if n := len(words) - 1; n != len(e.programs) {
						t.Errorf("%s: the README started %d programs", line, len(e.programs))
					}
				case words[len(words)-1] == "&":
					e.programs = append(e.programs, e.run(t, words[:len(words)-1], replace))
				default:
					cmd := exec.CommandContext(t.Context(), filepath.Join(e.dir, words[0]), words[1:]...)
					cmd.Dir = e.dir
					if out, err := cmd.CombinedOutput(); err != nil {
						t.Fatalf("%s: %v\n%s", line, err, out)
					}
				}
			}
			if curls < 3 || len(e.programs) != 4 {
				t.Errorf("%d requests to %d programs", curls, len(e.programs))
			}
		})
	}
}

// await sends the request until the answer is what the README says, eight times in a row: both
// servers are asked.
func (e *example) await(t *testing.T, c curl) {
	t.Helper()
	polltest.Until(t, c.line, func() bool {
		for range 8 {
			status, body, err := c.try()
			if err != nil || status != c.status || !strings.Contains(body, c.words[0]) {
				return false
			}
		}
		return true
	})
}

func checkDocker(t *testing.T, story, address, line string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(address)
	image := loadProfile(t, story)[story].Image
	run := fmt.Sprintf("docker run -d --rm --name extauthz-%s -p %s:%s ", story, address, port)
	switch {
	case strings.HasPrefix(line, run) && strings.Contains(line+" ", " "+image+" "):
	case strings.HasPrefix(line, "docker exec extauthz-"+story+" timeout 60 sh -c 'until "):
	case line == "docker stop extauthz-"+story:
	default:
		t.Errorf("%s\nwant %s… with the image %s, or a wait for it, or its end", line, run, image)
	}
}
