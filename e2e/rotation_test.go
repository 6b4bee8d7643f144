package e2e_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"extauthz/e2e/harness"
	"extauthz/keystore"
	"extauthz/polltest"
)

// A rotated key works with both secrets until the grace period ends, and then only with the new one, on both
// replicas and without another edit.
func TestRotationThroughTheEndOfGrace(t *testing.T) {
	t.Parallel()
	for kind, store := range reportStores(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "extauthz.yaml")
			config := "store: " + store(t) + "\ncache: {ttl: 10m, lookup_timeout: 2s}\n"
			writeFile(t, file, config)
			extauthz := func(args ...string) string {
				t.Helper()
				out, err := exec.CommandContext(t.Context(), harness.Extauthz(t), append(args, "--config", file)...).Output()
				if err != nil {
					t.Fatalf("extauthz %s: %v\n%s", strings.Join(args, " "), err, out)
				}
				return strings.TrimSpace(string(out))
			}
			extauthz("store", "migrate")
			first := keystore.Secret(extauthz("key", "new", "--id", "key_turn", "--allow", "127.0.0.1"))
			servers := []string{harness.StartExtauthz(t, harness.Settings{Config: config}).Addr, harness.StartExtauthz(t, harness.Settings{Config: config}).Addr}
			front := gateway{Servers: servers, Upstream: harness.StartUpstream(t).Addr}.start(t).Addr("front")
			codes := func(secret keystore.Secret) error {
				for range 4 {
					if r := send(t, front, call{header: headers("X-Api-Key", string(secret))}); r.code() != "VALID" {
						return fmt.Errorf("%d %s", r.status, r.body)
					}
				}
				return nil
			}
			polltest.NoError(t, func() error { return codes(first) })
			const grace = 15 * time.Second
			end := time.Now().Add(grace)
			second := keystore.Secret(extauthz("key", "rotate", "key_turn", "--grace", grace.String()))
			polltest.NoError(t, func() error { return codes(second) })
			if err := codes(first); err != nil && time.Now().Before(end.Add(-2*time.Second)) {
				t.Errorf("the old secret, within its grace: %v", err)
			}
			polltest.Until(t, "the old secret ends", func() bool {
				r := send(t, front, call{header: headers("X-Api-Key", string(first))})
				if r.code() == "NOT_FOUND" {
					return true
				}
				if r.code() != "VALID" {
					t.Fatalf("the old secret: %d %s", r.status, r.body)
				}
				return false
			})
			if early := time.Until(end); early > 2*time.Second {
				t.Errorf("the old secret ended %s early", early)
			}
			polltest.Until(t, "it ends at both replicas", func() bool {
				for range 4 {
					if send(t, front, call{header: headers("X-Api-Key", string(first))}).code() != "NOT_FOUND" {
						return false
					}
				}
				return true
			})
			if err := codes(second); err != nil {
				t.Errorf("the new secret, after the grace: %v", err)
			}
		})
	}
}
