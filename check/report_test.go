package check

import (
	"maps"
	"slices"
	"testing"

	"extauthz/keystore"
)

// A request that a whitelist in report mode would refuse is allowed like any other, and the metadata contain
// the code with which it would have been refused.
func TestReportMode(t *testing.T) {
	k := keyFor("secret", "192.0.2.1")
	k.WhitelistMode = keystore.Report
	c := checker(t, Config{Authorizer: authorizer(k)})
	listed := check(t, c, send("x-api-key", "secret"))
	for _, peer := range []string{"192.0.2.1", "198.51.100.7", ""} {
		o := check(t, c, send("x-api-key", "secret").from(peer))
		want := map[string]string{"code": "VALID", "key_id": k.ID, "client_address": peer}
		if peer != "192.0.2.1" {
			want["would_refuse"] = "FORBIDDEN"
		}
		if peer == "" {
			delete(want, "client_address")
		}
		got := make(map[string]string)
		for _, f := range o.Metadata() {
			if f.Value != "" {
				got[f.Name] = f.Value
			}
		}
		if !o.Allowed() || !maps.Equal(got, want) {
			t.Errorf("from %q: metadata %v, want %v", peer, got, want)
		}
		if !slices.Equal(o.ResponseHeaders, listed.ResponseHeaders) {
			t.Errorf("from %q: the caller sees %v, want %v", peer, o.ResponseHeaders, listed.ResponseHeaders)
		}
	}
	if o := check(t, c, send("x-api-key", "secret").with("permissions", "admin").from("198.51.100.7")); codeOf(t, o) != "INSUFFICIENT_PERMISSIONS" || !o.WouldRefuse {
		t.Errorf("without the permission: %+v", o)
	}
	c.Check(t.Context(), &Attributes{}, listed)
	if listed.WouldRefuse {
		t.Error("an outcome that is used again keeps what was before")
	}
}
