package keystore_test

import (
	"fmt"
	"net/netip"

	"extauthz/keystore"
)

func ExampleSecret() {
	secret := keystore.Secret("sk_live_1")
	fmt.Println(secret) // no log shows it
	fmt.Println(secret.Hash())
	// Output:
	// REDACTED
	// 992621cb15795f3e17e7e637aad64ef2cacf8471091104c0153e98355c520261
}

func ExampleParseWhitelistEntry() {
	for _, entry := range []string{"192.0.2.7", "10.0.0.0/8", "10.1.2.3/8", "::ffff:192.0.2.7"} {
		prefix, err := keystore.ParseWhitelistEntry(entry)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(prefix)
	}
	// Output:
	// 192.0.2.7/32
	// 10.0.0.0/8
	// 10.1.2.3/8 has bits set after the first 8: did you mean 10.0.0.0/8, or the one address 10.1.2.3?
	// 192.0.2.7/32
}

func ExampleWhitelist() {
	list := keystore.NewWhitelist([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")})
	for _, addr := range []string{"10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7", "192.0.2.7"} {
		fmt.Println(addr, list.Contains(netip.MustParseAddr(addr)))
	}
	// Output:
	// 10.1.2.3 true
	// ::ffff:10.1.2.3 true
	// 2001:db8::7 true
	// 192.0.2.7 false
}
