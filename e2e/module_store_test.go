package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/keystore"
	"extauthz/polltest"
)

// The module decides on keys in a database: known and unknown ones, changes that reach it while it runs, and an
// outage. Usage is recorded in the same database.
func TestModuleOverDatabases(t *testing.T) {
	t.Parallel()
	for kind, open := range databases {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			edits := db.fill(t, remoteKeys)
			l := newLink(t, db.addr)
			// With such a ttl, a change is seen only if the database itself reports it.
			const config = "cache: {ttl: 10m, negative_ttl: 10m, lookup_timeout: 2s}\nusage: {record: true, flush: 1s}\nroutes: [{path_prefix: /read, permissions: documents.read}]\n"
			m := newModule(t, "", "store: "+db.store(l.addr())+"\n"+config)
			envoy := gateway{Module: m.config(), Upstream: harness.StartUpstream(t).Addr}.start(t)
			front := envoy.Addr("front")
			becomes := func(c call, status int, what string) {
				t.Helper()
				polltest.NoError(t, func() error {
					if r := send(t, front, c); r.status != status || !strings.Contains(r.body, what) {
						return fmt.Errorf("got %d %s, want %d %s", r.status, r.body, status, what)
					}
					return nil
				})
			}
			polltest.Until(t, "the database reports changes", func() bool { return strings.Contains(envoy.Log(), "the key store reports changes") })

			saw := send(t, front, withKey("acme_remote")).upstreamSaw(t)
			if id := saw.Headers["x-extauthz-key-id"]; len(id) != 1 || id[0] != "key_remote" || saw.Headers["x-api-key"] != nil {
				t.Errorf("the upstream saw %v", saw.Headers)
			}
			near, far := withKey("acme_near"), withKey("acme_near").peer("127.0.0.2")
			send(t, front, near).upstreamSaw(t)
			send(t, front, far).wantRefusal(t, 403, "FORBIDDEN", "key_near")
			send(t, front, withKey("acme_disabled")).wantRefusal(t, 401, "DISABLED", "key_disabled")
			send(t, front, withKey("acme_other").to("/read")).wantRefusal(t, 403, "INSUFFICIENT_PERMISSIONS", "key_other")
			send(t, front, withKey("acme_other")).upstreamSaw(t)
			send(t, front, withKey("acme_added")).wantRefusal(t, 401, "NOT_FOUND", "")

			edits.command(t, "", "key", "allow", "key_near", "127.0.0.2")
			becomes(far, 200, "")
			edits.command(t, "", "key", "disallow", "key_near", "127.0.0.1")
			becomes(near, 403, "FORBIDDEN")
			edits.command(t, "keys:\n"+record("key_added", "acme_added"), "key", "import", "--from", "-")
			becomes(withKey("acme_added"), 200, "")
			db.disable(t, "key_other", keystore.Secret("acme_other").Hash())
			becomes(withKey("acme_other"), 401, "DISABLED")

			l.set(true)
			send(t, front, withKey("acme_remote")).upstreamSaw(t)
			becomes(withKey("acme_stranger"), 503, "UNAVAILABLE")
			edits.command(t, "", "key", "disable", "key_remote")
			l.set(false)
			becomes(withKey("acme_remote"), 401, "DISABLED")
			becomes(withKey("acme_stranger"), 401, "NOT_FOUND")

			writeFile(t, edits.file, "store: "+db.store(db.addr)+"\nusage: {record: true}\n")
			polltest.NoError(t, func() error {
				if used := edits.command(t, "", "key", "usage", "key_near"); !strings.Contains(used, "127.0.0.1") || !strings.Contains(used, "127.0.0.2") {
					return fmt.Errorf("usage: %s", used)
				}
				return nil
			})
			if code := envoy.Stop(); code != 0 {
				t.Errorf("Envoy ended with %d", code)
			}
		})
	}
}
