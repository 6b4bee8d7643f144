package authz_test

import (
	"context"
	"testing"

	"extauthz/authz"
	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

// A staleMap reports every record as stale.
type staleMap struct{ keyMap }

func (m staleMap) LookupStale(ctx context.Context, h keystore.Hash) (*keystore.Key, bool, error) {
	k, err := m.Lookup(ctx, h)
	return k, err == nil, err
}

func TestStaleRecord(t *testing.T) {
	keys := keyMap{}
	keys.add("a", []string{"10.0.0.0/8"}, nil)
	for _, c := range []struct {
		store  keystore.Store
		secret string
		stale  bool
	}{{keys, "a", false}, {staleMap{keys}, "a", true}, {staleMap{keys}, "unknown", false}} {
		d, err := authz.New(c.store, clock).Authorize(t.Context(), authz.Request{Secret: storetest.SecretOf(c.secret), ClientAddr: parse("10.0.0.1")})
		if err != nil || d.Stale != c.stale {
			t.Errorf("%T, %s: %+v, %v", c.store, c.secret, d, err)
		}
	}
}
