package authz_test

import (
	"slices"
	"testing"
	"time"

	"extauthz/authz"
	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/ratelimit/memory"
)

// TestPreviousSecret uses a rotated key until after the end of its grace period.
func TestPreviousSecret(t *testing.T) {
	until := now.Add(time.Hour)
	keys := keyMap{}
	keys.add("rotated", []string{"10.0.0.0/8"}, func(k *keystore.Key) {
		k.Previous = keystore.PreviousSecret{Hash: storetest.SecretOf("old").Hash(), Until: until}
		keys[k.Previous.Hash] = k
	})
	keys.add("other", nil, func(k *keystore.Key) { keys[storetest.SecretOf("stray").Hash()] = k })
	for _, c := range []struct {
		secret   string
		at       time.Time
		addr     string
		code     authz.Code
		previous bool
	}{
		{"rotated", now, "10.0.0.1", authz.Valid, false},
		{"old", now, "10.0.0.1", authz.Valid, true},
		{"old", until, "10.0.0.1", authz.Valid, true}, // the last moment
		{"old", until.Add(1), "10.0.0.1", authz.NotFound, false},
		{"rotated", until.Add(1), "10.0.0.1", authz.Valid, false},
		{"old", now, "192.0.2.1", authz.Forbidden, true},
		{"stray", now, "10.0.0.1", authz.NotFound, false}, // the store returned a key that has neither hash
	} {
		a := authz.New(keys, func() time.Time { return c.at })
		r := authz.Request{Secret: storetest.SecretOf(c.secret), ClientAddr: parse(c.addr)}
		d, err := a.Authorize(t.Context(), r)
		if err != nil || d.Code != c.code || d.PreviousSecret != c.previous || (d.Key != nil) != (c.code != authz.NotFound) {
			t.Errorf("%s at %s from %s: %+v, %v; want %s, previous %v", c.secret, c.at, c.addr, d, err, c.code, c.previous)
		}
		if explained, _, _ := a.Explain(t.Context(), r); explained.Code != d.Code || explained.PreviousSecret != d.PreviousSecret {
			t.Errorf("%s at %s: explained as %+v", c.secret, c.at, explained)
		}
	}
}

// TestReportMode allows only those requests that no check but the whitelist would refuse.
func TestReportMode(t *testing.T) {
	keys := keyMap{}
	add := func(id string, list []string, change func(*keystore.Key)) {
		keys.add(id, list, func(k *keystore.Key) {
			k.WhitelistMode = keystore.Report
			if change != nil {
				change(k)
			}
		})
	}
	list := []string{"10.0.0.0/8"}
	add("reports", list, nil)
	add("anywhere", nil, nil)
	add("disabled", list, func(k *keystore.Key) { k.Enabled = false })
	add("expired", list, func(k *keystore.Key) { k.Expires = now.Add(-1) })
	add("broken", list, func(k *keystore.Key) { k.Broken = errBroken })
	add("limited", list, func(k *keystore.Key) {
		k.Ratelimits = []keystore.Ratelimit{{Name: "requests", Limit: 1, Duration: time.Minute}}
	})
	a := authz.New(keys, clock, authz.WithLimits(authz.Limits{Limiter: memory.New(clock)}))
	for _, c := range []struct {
		id, addr, permissions string
		code                  authz.Code
		wouldRefuse           bool
	}{
		{"reports", "10.0.0.1", "", authz.Valid, false},
		{"reports", "192.0.2.1", "", authz.Valid, true},
		{"reports", "", "", authz.Valid, true},
		{"reports", "192.0.2.1", "admin", authz.InsufficientPermissions, true},
		{"anywhere", "192.0.2.1", "", authz.Valid, false},
		{"anywhere", "", "", authz.Valid, false},
		{"disabled", "192.0.2.1", "", authz.Disabled, false},
		{"expired", "192.0.2.1", "", authz.Expired, false},
		{"broken", "10.0.0.1", "", authz.Forbidden, false},
		{"limited", "192.0.2.1", "", authz.Valid, true},
		{"limited", "192.0.2.1", "", authz.RateLimited, true},
	} {
		r := authz.Request{Secret: storetest.SecretOf(c.id), ClientAddr: parse(c.addr), Permissions: c.permissions}
		d, err := a.Authorize(t.Context(), r)
		if err != nil || d.Code != c.code || d.WouldRefuse != c.wouldRefuse {
			t.Errorf("%s from %q: %s, would refuse %v, %v; want %s, %v", c.id, c.addr, d.Code, d.WouldRefuse, err, c.code, c.wouldRefuse)
		}
		if explained, steps, _ := a.Explain(t.Context(), r); explained.WouldRefuse != c.wouldRefuse {
			t.Errorf("%s from %q: explained as %+v: %v", c.id, c.addr, explained, slices.Collect(slices.Values(steps)))
		}
	}
}
