package keystore_test

import (
	"net/netip"
	"testing"
	"time"

	"extauthz/keystore"
)

func TestQueryMatches(t *testing.T) {
	now := time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)
	list := keystore.NewWhitelist([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
	k := &keystore.Key{ID: "key_acme", Name: "Acme, production", ExternalID: "acme", Enabled: true, Whitelist: list, Expires: now}
	anywhere := &keystore.Key{ID: "key_any", Whitelist: keystore.Anywhere(), WhitelistMode: keystore.Report}
	for _, c := range []struct {
		name  string
		key   *keystore.Key
		query keystore.Query
		want  bool
	}{
		{"everything", k, keystore.Query{}, true},
		{"id", k, keystore.Query{Text: "KEY_A"}, true},
		{"name", k, keystore.Query{Text: "acme, p"}, true},
		{"owner", k, keystore.Query{Text: "acme"}, true},
		{"part", k, keystore.Query{Text: "production"}, false},
		{"listed", k, keystore.Query{Address: netip.MustParseAddr("10.1.2.3")}, true},
		{"mapped", k, keystore.Query{Address: netip.MustParseAddr("::ffff:10.1.2.3")}, true},
		{"not listed", k, keystore.Query{Address: netip.MustParseAddr("192.0.2.1")}, false},
		{"without a list", anywhere, keystore.Query{Address: netip.MustParseAddr("10.1.2.3")}, false},
		{"disabled", anywhere, keystore.Query{State: keystore.StateDisabled}, true},
		{"enabled", k, keystore.Query{State: keystore.StateDisabled}, false},
		{"unrestricted", anywhere, keystore.Query{State: keystore.StateUnrestricted}, true},
		{"restricted", k, keystore.Query{State: keystore.StateUnrestricted}, false},
		{"nothing to report", anywhere, keystore.Query{State: keystore.StateReport}, false},
		{"enforced", k, keystore.Query{State: keystore.StateReport}, false},
		{"expired", k, keystore.Query{ExpiresBefore: now}, true},
		{"not expired", k, keystore.Query{ExpiresBefore: now.Add(-1)}, false},
		{"expires in time", k, keystore.Query{ExpiresAfter: now.Add(-1), ExpiresBefore: now}, true},
		{"expires too soon", k, keystore.Query{ExpiresAfter: now}, false},
		{"never expires", anywhere, keystore.Query{ExpiresBefore: now}, false},
	} {
		if got := c.query.Matches(c.key); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
