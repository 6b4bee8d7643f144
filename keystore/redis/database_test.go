package redis

import (
	"errors"
	"strings"
	"testing"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/polltest"
	"extauthz/redisclient/redistest"
)

// SWAPDB takes effect immediately, even for a user with only the documented permissions.
func TestDatabaseSwapped(t *testing.T) {
	r := redistest.Start(t)
	r.CLI("ACL", "SETUSER", "reader", "on", "nopass", "~{extauthz}:*",
		"+@connection", "+get", "+info", "+client|tracking", "+cluster|slots", "+role")
	a := open(t, Options{URL: r.URL()})
	b := newReplica(t, strings.Replace(r.URL(), "//", "//reader:any@", 1))
	b.awaitUp(t, 1)
	k := storetest.NewKey("key_a", "10.0.0.0/8")
	must(t, a.Add(t.Context(), k))
	b.knows(t, k)
	prepared := open(t, Options{URL: r.URL() + "/1"})
	disabled := *k
	disabled.Enabled = false
	must(t, prepared.Add(t.Context(), &disabled))
	r.CLI("SWAPDB", "1", "0")
	polltest.Until(t, "the key is disabled", func() bool {
		got, err := b.cache.Lookup(t.Context(), k.Hash)
		return err == nil && !got.Enabled
	})
	r.CLI("CONFIG", "RESETSTAT") // after which the server has counted none
	r.CLI("SWAPDB", "1", "0")
	polltest.Until(t, "the key is enabled", func() bool {
		got, err := b.cache.Lookup(t.Context(), k.Hash)
		return err == nil && got.Enabled
	})
	if _, ups := b.state(); ups != 1 {
		t.Errorf("the channel came up %d times, want once", ups)
	}
}

func TestWarnsWhereSwapsCannotBeNoticed(t *testing.T) {
	r := redistest.Start(t)
	r.CLI("ACL", "SETUSER", "reader", "on", "nopass", "~{extauthz}:*",
		"+@connection", "+get", "+client|tracking", "+cluster|slots", "+role")
	b := newReplica(t, strings.Replace(r.URL(), "//", "//reader:any@", 1))
	b.awaitUp(t, 1)
	b.awaitWarning(t, "SWAPDB")
}

// A database that is empty after a restart refuses its keys, and a warning is logged.
func TestWarnsOfAnEmptyDatabase(t *testing.T) {
	for name, empty := range map[string]func(*redistest.Server){
		"restart without persistence": func(r *redistest.Server) { r.Kill(); r.Wipe(); r.Restart() },
		"FLUSHALL":                    func(r *redistest.Server) { r.CLI("FLUSHALL") },
		"SWAPDB":                      func(r *redistest.Server) { r.CLI("SWAPDB", "0", "1") },
	} {
		t.Run(name, func(t *testing.T) {
			r := redistest.Start(t)
			k := storetest.NewKey("key_a")
			must(t, open(t, Options{URL: r.URL()}).Add(t.Context(), k))
			b := newReplica(t, r.URL())
			b.awaitUp(t, 1)
			b.knows(t, k)
			b.mu.Lock()
			if len(b.warnings) > 0 {
				t.Errorf("warned of %q, with a key", b.warnings)
			}
			b.mu.Unlock()
			empty(r)
			b.awaitWarning(t, "{extauthz}:ids does not exist")
			b.refuses(t, k)
		})
	}
}

// On a replica, the channel is up only while the replica is connected to its master.
func TestReplicaLosesItsMaster(t *testing.T) {
	master := redistest.Start(t, "--repl-diskless-sync-delay", "0")
	r := redistest.Start(t)
	r.CLI("REPLICAOF", "127.0.0.1", master.Port())
	polltest.Until(t, "it is in step", func() bool { return strings.Contains(r.CLI("INFO", "replication"), "master_link_status:up") })
	a, b := open(t, Options{URL: master.URL()}), newReplica(t, r.URL())
	b.awaitUp(t, 1)
	k := storetest.NewKey("key_a")
	must(t, a.Add(t.Context(), k))
	b.knows(t, k)
	must(t, a.Delete(t.Context(), k.ID))
	polltest.Until(t, "it is refused", func() bool {
		_, err := b.cache.Lookup(t.Context(), k.Hash)
		return errors.Is(err, keystore.ErrNotFound)
	})
	must(t, a.Add(t.Context(), k))
	b.knows(t, k)

	master.Kill()
	b.awaitDown(t)
	master.Restart()
	b.awaitUp(t, 2)

	other := redistest.Start(t, "--repl-diskless-sync-delay", "0") // which is empty
	r.CLI("REPLICAOF", "127.0.0.1", other.Port())
	polltest.Until(t, "it is refused", func() bool {
		_, err := b.cache.Lookup(t.Context(), k.Hash)
		return errors.Is(err, keystore.ErrNotFound)
	})
}

func TestWarnsOfEviction(t *testing.T) {
	r := redistest.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	b := newReplica(t, r.URL())
	b.awaitWarning(t, "allkeys-lru")
}
