package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"extauthz/e2e/harness"
	"extauthz/keystore/postgres/pgtest"
	"extauthz/polltest"
	"extauthz/redisclient/redistest"
)

// Faults of databases.
var storeFaults = []fault{
	{
		name:   "Redis with keys and usage is killed",
		alerts: []string{"ExtauthzStoreLost", "ExtauthzUnavailable", "ExtauthzStaleRecords", "ExtauthzChangesNotReported", "ExtauthzUsageNotWritten"},
		sections: map[string][]string{
			"The store is unavailable": {"extauthz_cache_store_outage 1", "connection refused"},
			"Callers get 503":          {"extauthz_cache_store_outage 1", "UNAVAILABLE", "connection refused"},
			"Usage is missing":         {"extauthz_usage_write_failures_total", "usage cannot be written"},
		},
		scene: redisKilled,
	},
	{
		name:   "Postgres hangs",
		alerts: []string{"ExtauthzStoreLost", "ExtauthzUnavailable", "ExtauthzSlow"},
		sections: map[string][]string{
			"Decisions are slow": {"extauthz_cache_store_errors_total", "UNAVAILABLE"},
		},
		scene:  postgresHangs,
		during: 12,
	},
	{
		name:     "the connection for LISTEN is cut",
		alerts:   []string{"ExtauthzChangesNotReported"},
		sections: map[string][]string{"A change is not live": {"extauthz_store_channel_up 0", "the key store does not report changes"}},
		scene:    channelCut,
	},
	{
		name:     "a record is broken",
		alerts:   []string{"ExtauthzBrokenRecord"},
		sections: map[string][]string{"One key is refused": {"key_listed", "ip_whitelist"}},
		scene:    recordBroken,
		during:   5,
	},
	{
		name:     "Redis with rate limits is killed",
		alerts:   []string{"ExtauthzLimiterFailed"},
		sections: map[string][]string{"Rate limits do not work": {"the rate limiter does not answer", "extauthz_ratelimit_failures_total"}},
		scene:    limiterKilled,
	},
}

// unknownSecret is in no store.
const unknownSecret = "sk_unknown"

func redisKilled(t *testing.T) *scene {
	redis := redistest.Start(t)
	settings := harness.Settings{
		Keys:   keys,
		Config: fmt.Sprintf("store: {redis: {url: %q}}\ncache: {ttl: 200ms, negative_ttl: 0s, lookup_timeout: 2s}\nusage: {record: true, flush: 100ms}\n", redis.URL()),
	}
	s := startScene(t, settings)
	s.connected(t)
	s.command(t, "key", "import", "--from", "keys.yaml")
	s.through(t, gateway{}, string(listed), unknownSecret)
	ask := s.load
	s.load = func() { ask(); time.Sleep(100 * time.Millisecond) }
	s.fail = func() {
		redis.Kill()
		polltest.Until(t, "the outage is noticed", func() bool { s.load(); return s.has("extauthz_cache_store_outage 1") })
	}
	return s
}

// onPostgres starts a server over a Postgres database with the keys.
func onPostgres(t *testing.T, listen func(*pgtest.Server) string, settings string) (*pgtest.Server, *scene) {
	t.Helper()
	pg := pgtest.Start(t)
	config := fmt.Sprintf("store: {postgres: {dsn: %q%s}}\n%s", pg.DSN(), listen(pg), settings)
	admin := replicas{file: t.TempDir() + "/extauthz.yaml"}
	writeFile(t, admin.file, fmt.Sprintf("store: {postgres: {dsn: %q}}\n", pg.DSN()))
	admin.command(t, "", "store", "migrate")
	admin.command(t, keys, "key", "import", "--from", "-")
	s := startScene(t, harness.Settings{Keys: keys, Config: config})
	s.connected(t)
	return pg, s
}

// connected waits until the channel that reports changes is up.
func (s *scene) connected(t *testing.T) {
	t.Helper()
	polltest.Until(t, "the channel is up", func() bool { return s.has("extauthz_store_channel_up 1") })
}

func direct(*pgtest.Server) string { return "" }

func postgresHangs(t *testing.T) *scene {
	pg, s := onPostgres(t, direct, "cache: {ttl: 200ms, negative_ttl: 0s, lookup_timeout: 500ms}\n")
	s.through(t, gateway{}, string(listed), unknownSecret)
	s.fail = func() {
		pg.Pause()
		polltest.Until(t, "the outage is noticed", func() bool { s.load(); return s.has("extauthz_cache_store_outage 1") })
	}
	t.Cleanup(pg.Resume)
	return s
}

func channelCut(t *testing.T) *scene {
	var proxy *redistest.Proxy
	_, s := onPostgres(t, func(pg *pgtest.Server) string {
		proxy = redistest.StartProxy(t, pg.Addr())
		return fmt.Sprintf(", listen: %q", pg.URL("postgres", proxy.Addr()))
	}, "cache: {lookup_timeout: 2s}\n")
	s.through(t, gateway{}, string(listed))
	s.fail = func() {
		proxy.Cut(false)
		polltest.Until(t, "the channel is down", func() bool { return s.has("extauthz_store_channel_up 0") })
	}
	return s
}

func recordBroken(t *testing.T) *scene {
	pg, s := onPostgres(t, direct, "cache: {ttl: 100ms, lookup_timeout: 2s}\n")
	front := s.through(t, gateway{}, string(listed))
	status := func(want int) func() bool {
		return func() bool {
			return send(t, front, call{header: headers("X-Api-Key", string(listed))}).status == want
		}
	}
	s.fail = func() {
		pg.Exec(t, "postgres", `UPDATE extauthz.keys SET ip_whitelist = '{}' WHERE id = 'key_listed'`)
		polltest.Until(t, "the key is refused", status(403))
	}
	s.mended = func() { polltest.Until(t, "the key works again", status(200)) }
	return s
}

func limiterKilled(t *testing.T) *scene {
	redis := redistest.Start(t)
	s := startScene(t, harness.Settings{
		Keys:   "keys:\n" + record("key_metered", metered, "ratelimits: [{name: requests, limit: 100000, duration: 1h}]"),
		Config: fmt.Sprintf("ratelimit: {store: redis, url: %q, timeout: 2s}\n", redis.URL()),
	})
	s.key = "key_metered"
	s.through(t, gateway{}, string(metered))
	s.fail = redis.Kill
	return s
}

// command runs extauthz with the server's own configuration.
func (s *scene) command(t *testing.T, args ...string) {
	t.Helper()
	out := s.shell(t, "", "extauthz "+strings.Join(args, " ")+" --config extauthz.yaml")
	if t.Failed() {
		t.Fatal(out)
	}
}
