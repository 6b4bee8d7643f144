package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"extauthz/polltest"
)

// A readyReport is the response of /readyz?verbose.
type readyReport struct {
	Ready           bool
	Reason, Version string
	OldestStale     float64 `json:"oldest_stale_seconds"`
	Store           struct {
		Kind, Error       string
		ErrorClass        string `json:"error_class"`
		Reachable, Outage bool
		Since             time.Time
	}
	Channel struct {
		Kind, Error string
		Up          bool
		Since       time.Time
	}
	Config, Keys struct {
		Loaded, Tried time.Time
		Failed        bool
		Error         string
	}
}

// status returns the response of /readyz?verbose, whose status code must be that of /readyz.
func (p *process) status(t *testing.T) (r readyReport) {
	t.Helper()
	code, body := p.get(t, "/readyz?verbose")
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if r.Ready != (code == 200) || r.Ready != (r.Reason == "") || r.Version == "" || code != 200 && code != 503 {
		t.Errorf("status %d for %s", code, body)
	}
	if strings.Contains(body, "4711") {
		t.Errorf("a secret is in %s", body)
	}
	return r
}

// /readyz?verbose shows the state of the store and of its channel, and the age of cached records in use.
func TestServeStatusOfStores(t *testing.T) {
	for kind, db := range databases(t) {
		t.Run(kind, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "extauthz.yaml")
			config := local + "cache: {ttl: 200ms, negative_ttl: 100ms, lookup_timeout: 2s}\nstore: " + db.store + "\n"
			write(t, file, config)
			command(t, "", "store", "migrate", "--config", file)
			command(t, keyFile(secretOne), "key", "import", "--from", "-", "--config", file)
			db.kill()
			p := serve(t, config)
			polltest.Until(t, "not ready, as the store is unreachable", func() bool {
				r := p.status(t)
				return !r.Ready && !r.Store.Reachable && r.Store.ErrorClass == "unreachable" && r.Store.Error != "" && !r.Channel.Up
			})
			db.restart()
			polltest.Until(t, "ready, and the channel is up", func() bool { r := p.status(t); return r.Ready && r.Store.Reachable && r.Channel.Up })
			if kind == "redis" { // it has no persistent data
				command(t, keyFile(secretOne), "key", "import", "--from", "-", "--config", file, "--overwrite")
			}
			up := p.status(t)
			channel := map[string]string{"postgres": "LISTEN/NOTIFY", "redis": "client tracking"}[kind]
			if up.Store.Kind != kind || up.Channel.Kind != channel || up.Store.Error != "" || up.Channel.Error != "" || up.OldestStale != 0 || up.Store.Outage {
				t.Errorf("a store that is well: %+v", up)
			}
			if up.Config.Failed || up.Config.Loaded.IsZero() || !up.Keys.Loaded.IsZero() {
				t.Errorf("what was loaded: %+v", up)
			}
			polltest.Until(t, "a key is allowed", func() bool { return decision(t, p, secretOne, "10.1.2.3") == "VALID" })

			db.kill()
			polltest.Until(t, "the store is unreachable, though nobody looks a key up", func() bool {
				r := p.status(t)
				return r.Ready && !r.Store.Reachable && r.Store.ErrorClass == "unreachable" && !r.Store.Since.Before(up.Store.Since) && !r.Channel.Up && r.Channel.Error != ""
			})
			polltest.Until(t, "a stale record answers", func() bool {
				if got := decision(t, p, secretOne, "10.1.2.3"); got != "VALID" {
					t.Fatal(got)
				}
				r := p.status(t)
				return r.OldestStale > 0 && r.Store.Outage
			})
			db.restart()
			polltest.Until(t, "well again", func() bool {
				decision(t, p, secretOne, "10.1.2.3")
				r := p.status(t)
				return r.Store.Reachable && r.Channel.Up && r.Store.Error == "" && r.Store.ErrorClass == "" && !r.Store.Outage
			})
		})
	}
}

// /readyz?verbose shows the results of the last loads of the configuration and of the key file.
func TestServeStatusOfReloads(t *testing.T) {
	dir := t.TempDir()
	keys, file := filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "extauthz.yaml")
	replace := func(path, text string) {
		write(t, path+".new", text)
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	config := local + "store: {yaml: {path: " + keys + "}}\n"
	write(t, keys, keyFile(secretOne))
	write(t, file, config)
	p := serving(t, start(t, "serve", "--config", file))
	polltest.Until(t, "ready", func() bool { return p.status(t).Ready })
	first := p.status(t)
	if first.Store.Kind != "yaml" || !first.Store.Reachable || !first.Channel.Up || first.Config.Loaded.IsZero() || first.Keys.Loaded.IsZero() || first.Keys.Failed {
		t.Errorf("at the start: %+v", first)
	}
	replace(keys, "keys: [{id: a, hash: short}]\n")
	replace(file, config+"dry_runn: true\n")
	polltest.Until(t, "both failed", func() bool { r := p.status(t); return r.Config.Failed && r.Keys.Failed })
	bad := p.status(t)
	if !bad.Ready || !strings.Contains(bad.Config.Error, "dry_runn") || !strings.Contains(bad.Keys.Error, "keys.yaml:1:") ||
		!bad.Keys.Loaded.Equal(first.Keys.Loaded) || !bad.Keys.Tried.After(first.Keys.Tried) || !bad.Config.Loaded.Equal(first.Config.Loaded) {
		t.Errorf("after two mistakes: %+v", bad)
	}
	replace(keys, keyFile(secretOne, secretTwo))
	replace(file, config+"forward_key: true\n")
	polltest.Until(t, "both are mended", func() bool {
		r := p.status(t)
		return !r.Config.Failed && !r.Keys.Failed && r.Config.Error == "" && r.Keys.Loaded.After(first.Keys.Loaded) && r.Config.Loaded.After(first.Config.Loaded)
	})
}
