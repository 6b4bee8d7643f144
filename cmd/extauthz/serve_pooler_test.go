package main

import (
	"path/filepath"
	"strings"
	"testing"

	"extauthz/keystore/postgres/pgtest"
	"extauthz/polltest"
)

// Through pgbouncer in transaction mode, keys are looked up with the plain dsn. The channel of changes
// counts as up only with a dsn that bypasses it.
func TestServeThroughAPooler(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t)
	direct, pooled := pg.DSN(), pg.URL("postgres", pg.StartPooler(t, "transaction", 3).Addr())
	file := filepath.Join(t.TempDir(), "extauthz.yaml")
	write(t, file, local+"store: {postgres: {dsn: \""+pooled+"\"}}\n")
	for range 2 { // each a process of its own, which shares the pooler's connections
		command(t, "", "store", "migrate", "--config", file)
		command(t, keyFile(secretOne), "key", "import", "--from", "-", "--config", file)
		command(t, "", "key", "show", "key_0", "--config", file)
	}
	for _, tt := range []struct{ store, channel, log string }{
		{`dsn: "` + pooled + `"`, "0", "LISTEN does not work through a connection pooler in transaction mode"},
		{`dsn: "` + pooled + `", listen: "` + direct + `"`, "1", "the key store reports changes"},
	} {
		p := serve(t, local+"cache: {ttl: 1s, lookup_timeout: 2s}\nstore: {postgres: {"+tt.store+"}}\n")
		polltest.Until(t, "ready", func() bool { status, _ := p.get(t, "/readyz"); return status == 200 })
		polltest.Until(t, tt.log, func() bool { return strings.Contains(p.Log(), tt.log) })
		polltest.Until(t, "channel_up is "+tt.channel, func() bool { return p.metric(t, "extauthz_store_channel_up") == tt.channel })
		decide := func(want string) {
			t.Helper()
			polltest.Until(t, want, func() bool { return decision(t, p, secretOne, "10.1.2.3") == want })
		}
		decide("VALID")
		command(t, "", "key", "disable", "key_0", "--config", file)
		decide("DISABLED") // by the channel, or after ttl
		command(t, "", "key", "enable", "key_0", "--config", file)
		if strings.Contains(p.Log(), pgtest.Password) {
			t.Error("the log contains the password")
		}
	}
}
