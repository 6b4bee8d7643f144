package keystore_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

func TestKeyZeroValueRefuses(t *testing.T) {
	var k keystore.Key
	if k.Enabled || !k.Whitelist.Restricted() || k.Validate() == nil {
		t.Errorf("enabled %t, restricted %t, valid %t", k.Enabled, k.Whitelist.Restricted(), k.Validate() == nil)
	}
}

func TestKeyExpiredAt(t *testing.T) {
	moment := time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)
	k := keystore.Key{Expires: moment}
	for now, want := range map[time.Time]bool{
		moment.Add(-time.Nanosecond):        false,
		moment:                              false, // the last moment
		moment.Add(time.Nanosecond):         true,
		moment.In(time.FixedZone("", 3600)): false,
	} {
		if k.ExpiredAt(now) != want {
			t.Errorf("at %s: %t, want %t", now, !want, want)
		}
	}
	if (&keystore.Key{}).ExpiredAt(moment) {
		t.Error("a key without a time expires")
	}
}

func TestKeyClone(t *testing.T) {
	k := storetest.NewKey("key_a", "10.0.0.0/8")
	k.Permissions, k.Roles = []string{"a"}, []string{"b"}
	k.Ratelimits = []keystore.Ratelimit{{Name: "c", Limit: 1, Duration: time.Second}}
	k.Meta = json.RawMessage(`{}`)
	c := k.Clone()
	c.Permissions[0], c.Roles[0], c.Ratelimits[0].Limit, c.Meta[0] = "x", "x", 9, 'x'
	if k.Permissions[0] != "a" || k.Roles[0] != "b" || k.Ratelimits[0].Limit != 1 || k.Meta[0] != '{' {
		t.Errorf("the key changed with its copy: %+v", k)
	}
}

func TestKeyValidate(t *testing.T) {
	bad := keystore.Key{
		ID: "key one", Name: "a\nb", ExternalID: " acme", Permissions: []string{"a b"}, Roles: []string{""},
		Ratelimits: []keystore.Ratelimit{{}}, Meta: json.RawMessage("{"),
	}
	want := []string{ // one line a fault, all of them
		`id: "key one" has a character other than letters, digits and . _ - : in it`,
		`name: "a\nb" has a control character in it`,
		`hash: missing: write the SHA-256 of the secret`,
		`ip_whitelist: ` + keystore.ErrEmptyWhitelist.Error(),
		`external_id: " acme" has spaces around it: write "acme"`,
		`permissions: "a b" has a character other than letters, digits and . _ - : * / in it`,
		`roles: an empty name: write one such as documents.read`,
		`ratelimits: name: missing: write an id such as key_acme_prod`,
		`limit: 0: write at least 1`,
		`duration: 0s: write one from 1s to 8784h`,
		`meta: not JSON`,
	}
	if err := bad.Validate(); err == nil || err.Error() != strings.Join(want, "\n") {
		t.Errorf("got\n%v\nwant\n%s", err, strings.Join(want, "\n"))
	} else if !errors.Is(err, keystore.ErrEmptyWhitelist) {
		t.Error("ErrEmptyWhitelist is not to be found in it")
	}
	if err := storetest.NewKey("key_a").Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name     string
		validate func(string) error
		accept   []string
		refuse   []string
	}{
		{
			"ValidateID", keystore.ValidateID,
			[]string{"a", "key_acme_prod", "A.b-c:9", strings.Repeat("i", 128)},
			[]string{"", " ", "a b", "a/b", "a\n", "é", "a\x00", "a,b", strings.Repeat("i", 129)},
		},
		{
			"ValidateName", keystore.ValidateName,
			[]string{"", "Acme, production", "東京 🔑", strings.Repeat("n", 256)},
			[]string{"a\nb", "\t", "\x7f", "\x00", strings.Repeat("n", 257), "a\x1b[2J", "\xff", "a\u0085b", "a\u2028b", "a\u202eb"},
		},
		{
			"ValidateExternalID", keystore.ValidateExternalID,
			[]string{"", "acme", "a b", "~!", strings.Repeat("e", 256)},
			[]string{" a", "a ", "a\r\nx-evil: 1", "é", "\x7f", strings.Repeat("e", 257)},
		},
		{
			"ValidatePermission", keystore.ValidatePermission,
			[]string{"a", "documents.read", "*", "a:b/c-d_e*", strings.Repeat("p", 256)},
			[]string{"", "a b", "(a)", "é", strings.Repeat("p", 257)},
		},
	} {
		for _, s := range test.accept {
			if err := test.validate(s); err != nil {
				t.Errorf("%s(%q): %v", test.name, s, err)
			}
		}
		for _, s := range test.refuse {
			if test.validate(s) == nil {
				t.Errorf("%s(%q): not refused", test.name, s)
			}
		}
	}
}

func TestValidateRatelimits(t *testing.T) {
	sound := keystore.Ratelimit{Name: "requests", Limit: 1, Duration: time.Second}
	with := func(change func(*keystore.Ratelimit)) []keystore.Ratelimit {
		l := sound
		change(&l)
		return []keystore.Ratelimit{sound, l}
	}
	for want, limits := range map[string][]keystore.Ratelimit{
		"": {sound, {Name: "exports", Limit: 1 << 62, Duration: 366 * 24 * time.Hour, OnDemand: true}},
		`name: "requests" appears twice: give each limit its own name`: with(func(*keystore.Ratelimit) {}),
		"name: missing: write an id such as key_acme_prod":             with(func(l *keystore.Ratelimit) { l.Name = "" }),
		"limit: 0: write at least 1":                                   with(func(l *keystore.Ratelimit) { l.Name, l.Limit = "b", 0 }),
		"limit: -1: write at least 1":                                  with(func(l *keystore.Ratelimit) { l.Name, l.Limit = "b", -1 }),
		"duration: 999ms: write one from 1s to 8784h":                  with(func(l *keystore.Ratelimit) { l.Name, l.Duration = "b", 999*time.Millisecond }),
		"duration: 8784h0m0.000000001s: write one from 1s to 8784h":    with(func(l *keystore.Ratelimit) { l.Name, l.Duration = "b", 366*24*time.Hour+1 }),
	} {
		got := ""
		if err := keystore.ValidateRatelimits(slices.Clone(limits)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
