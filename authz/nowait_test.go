package authz_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"extauthz/authz"
	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/ratelimit/memory"
)

// inMemory is a store that has only some of its keys in memory.
type inMemory struct {
	keyMap
	has map[keystore.Hash]bool
}

func (m inMemory) LookupMemory(h keystore.Hash) (*keystore.Key, bool, error) {
	if !m.has[h] {
		return nil, false, keystore.ErrNotInMemory
	}
	k, err := m.Lookup(context.Background(), h)
	return k, false, err
}

// With NoWait, Authorize never waits for a store or a limiter, and spends nothing if it would have to.
func TestNoWait(t *testing.T) {
	keys := keyMap{}
	limited := func(k *keystore.Key) {
		k.Ratelimits = []keystore.Ratelimit{{Name: "requests", Limit: 1, Duration: time.Hour}}
	}
	keys.add("here", nil, nil)
	keys.add("away", nil, nil)
	keys.add("limited", nil, limited)
	keys.add("disabled", nil, func(k *keystore.Key) { limited(k); k.Enabled = false })
	has := map[keystore.Hash]bool{}
	for _, id := range []string{"here", "limited", "disabled", "unknown"} {
		has[storetest.SecretOf(id).Hash()] = true
	}
	type row struct {
		secret string
		code   authz.Code
		waits  bool
	}
	run := func(name string, a *authz.Authorizer, rows []row) {
		t.Helper()
		for _, r := range rows {
			request := authz.Request{ClientAddr: parse("10.0.0.1"), NoWait: true}
			if r.secret != "" {
				request.Secret = storetest.SecretOf(r.secret)
			}
			d, err := a.Authorize(t.Context(), request)
			if errors.Is(err, keystore.ErrNotInMemory) != r.waits || d.Code != r.code || !r.waits && err != nil {
				t.Errorf("%s, %s: %s, %v; want %s, waits %t", name, r.secret, d.Code, err, r.code, r.waits)
			}
		}
	}
	limiter := memory.New(clock)
	here := []row{{"", authz.MissingKey, false}, {"here", authz.Valid, false}, {"unknown", authz.NotFound, false}, {"disabled", authz.Disabled, false}, {"away", authz.Unavailable, true}}
	remote := authz.New(inMemory{keys, has}, clock, authz.WithLimits(authz.Limits{Limiter: limiter, Remote: true}))
	run("remote limits", remote, append(here, row{"limited", authz.Unavailable, true}))
	local := authz.New(inMemory{keys, has}, clock, authz.WithLimits(authz.Limits{Limiter: limiter}))
	run("local limits", local, append(here, row{"limited", authz.Valid, false}, row{"limited", authz.RateLimited, false}))
	run("a store that does not know", authz.New(keys, clock), []row{{"", authz.MissingKey, false}, {"here", authz.Unavailable, true}, {"unknown", authz.Unavailable, true}})
}
