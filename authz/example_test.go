package authz_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"extauthz/authz"
	"extauthz/keystore"
)

// oneKey is a store with one key.
type oneKey struct{ key keystore.Key }

func (s *oneKey) Lookup(_ context.Context, h keystore.Hash) (*keystore.Key, error) {
	if h != s.key.Hash {
		return nil, keystore.ErrNotFound
	}
	return &s.key, nil
}

func Example() {
	secret := keystore.Secret("sk_live_1")
	store := &oneKey{keystore.Key{
		ID: "key_acme", Hash: secret.Hash(), Enabled: true, Permissions: []string{"documents.read"},
		Whitelist: keystore.NewWhitelist([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}),
	}}
	authorizer := authz.New(store, time.Now)
	for _, r := range []authz.Request{
		{Secret: secret, ClientAddr: netip.MustParseAddr("192.0.2.7"), Permissions: "documents.read"},
		{Secret: secret, ClientAddr: netip.MustParseAddr("192.0.2.7"), Permissions: "documents.write"},
		{Secret: secret, ClientAddr: netip.MustParseAddr("198.51.100.9")},
		{Secret: "sk_guess", ClientAddr: netip.MustParseAddr("192.0.2.7")},
	} {
		decision, err := authorizer.Authorize(context.Background(), r)
		fmt.Println(decision.Code, decision.Code.Allowed(), err)
	}
	// Output:
	// VALID true <nil>
	// INSUFFICIENT_PERMISSIONS false <nil>
	// FORBIDDEN false <nil>
	// NOT_FOUND false <nil>
}

func ExampleAuthorizer_Explain() {
	secret := keystore.Secret("sk_live_1")
	store := &oneKey{keystore.Key{
		ID: "key_acme", Hash: secret.Hash(), Enabled: true,
		Whitelist: keystore.NewWhitelist([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}),
	}}
	request := authz.Request{Secret: secret, ClientAddr: netip.MustParseAddr("198.51.100.9")}
	decision, steps, err := authz.New(store, time.Now).Explain(context.Background(), request)
	if err != nil {
		fmt.Println(err)
	}
	for _, step := range steps {
		if step.Ran && !step.Holds {
			fmt.Printf("%s: %s\n", decision.Code, step.Detail)
		}
	}
	// Output: FORBIDDEN: 198.51.100.9 is in none of the key's 2 ranges
}
