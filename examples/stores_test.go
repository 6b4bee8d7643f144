package examples_test

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/keystore/postgres/pgtest"
	"extauthz/redisclient/redistest"
)

// databases start, by example, the database that its README starts by docker, and return its address in the
// README and its address in the test.
var databases = map[string]func(t *testing.T) (written, here string){
	"postgres": func(t *testing.T) (written, here string) {
		s := pgtest.Start(t)
		s.Exec(t, "postgres", "CREATE ROLE extauthz LOGIN PASSWORD 'demo'")
		s.Exec(t, "postgres", "CREATE DATABASE extauthz OWNER extauthz")
		return "127.0.0.1:5432", s.Addr()
	},
	"redis": func(t *testing.T) (written, here string) { return "127.0.0.1:6379", redistest.Start(t).Addr() },
}

func TestStoreREADMEs(t *testing.T) {
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			written, here := database(t)
			ports := ownPorts(t)
			tr := newTree(t, func(s string) string { return strings.ReplaceAll(ports(s), written, here) }, name)
			if err := harness.ValidateEnvoy(t, readFile(t, filepath.Join(name, "envoy.yaml"))); err != nil {
				t.Error(err)
			}
			readme := filepath.Join(name, "README.md")
			for line := range strings.Lines(strings.Join(shellBlocks(t, readme), "")) {
				if strings.HasPrefix(line, "docker ") { // no container engine is here
					checkDocker(t, name, written, strings.TrimSpace(line))
				}
			}
			tr.runREADME(t, readme, "-e")
		})
	}
}

func checkDocker(t *testing.T, story, address, line string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(address)
	image := regexp.MustCompile(`image: (` + story + `:\S+)`).FindStringSubmatch(readFile(t, filepath.Join(harness.Root(t), "docker-compose.yml")))[1]
	run := fmt.Sprintf("docker run -d --rm --name extauthz-%s -p %s:%s ", story, address, port)
	switch {
	case strings.HasPrefix(line, run) && strings.Contains(line+" ", " "+image+" "):
	case strings.HasPrefix(line, "docker exec extauthz-"+story+" timeout 60 sh -c 'until "):
	case line == "docker stop extauthz-"+story:
	default:
		t.Errorf("%s\nwant %s… with the image %s, or a wait for it, or its end", line, run, image)
	}
}
