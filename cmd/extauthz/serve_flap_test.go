package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"extauthz/polltest"
)

// Cached keys work while a store flaps, and an edit shortly before an outage takes effect during it.
func TestServeFlappingStore(t *testing.T) {
	t.Parallel()
	for kind, db := range databases(t) {
		t.Run(kind, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "extauthz.yaml")
			// With this ttl, only the channel of changes has an effect.
			config := local + "cache: {ttl: 1h, max_stale: 1h, lookup_timeout: 2s}\nstore: " + db.store + "\n"
			write(t, file, config)
			command(t, "", "store", "migrate", "--config", file)
			command(t, keyFile(secretOne, secretTwo), "key", "import", "--from", "-", "--config", file)
			p := serve(t, config)
			decide := func(when, secret, want string) {
				t.Helper()
				polltest.Until(t, when+": "+want, func() bool { return decision(t, p, secret, "10.1.2.3") == want })
			}
			channel := func(up string) {
				t.Helper()
				polltest.Until(t, "the channel is "+up, func() bool { return p.metric(t, "extauthz_store_channel_up") == up })
			}
			channel("1")
			decide("in use", secretOne, "VALID")
			decide("in use", secretTwo, "VALID")

			for range 2 {
				db.kill()
				channel("0")
				db.restart()
				channel("1")
			}
			db.kill() // before anyone has asked
			for _, secret := range []string{secretOne, secretTwo} {
				if got := decision(t, p, secret, "10.1.2.3"); got != "VALID" {
					t.Errorf("after the store flapped: %s, want VALID", got)
				}
			}
			db.restart()
			channel("1")

			p.Signal(syscall.SIGHUP)
			polltest.Until(t, "SIGHUP takes effect", func() bool { return strings.Contains(p.Log(), "every cached key is looked up again") })
			command(t, "", "key", "disable", "key_0", "--config", file)
			time.Sleep(2 * time.Second) // no request, only the lookup in the background
			db.kill()
			if got := decision(t, p, secretOne, "10.1.2.3"); got != "DISABLED" {
				t.Errorf("disabled 2 s before the outage: %s, want DISABLED", got)
			}
			if got := decision(t, p, secretTwo, "10.1.2.3"); got != "VALID" {
				t.Errorf("the other key: %s, want VALID", got)
			}
			db.restart()
		})
	}
}
