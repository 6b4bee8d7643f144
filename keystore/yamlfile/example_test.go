package yamlfile_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"extauthz/keystore"
	"extauthz/keystore/yamlfile"
)

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	secret := keystore.Secret("sk_live_1")
	path := filepath.Join(dir, "keys.yaml")
	text := "keys:\n  - id: key_acme\n    hash: " + secret.Hash().String() + "\n    ip_whitelist: [192.0.2.0/24]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	store, err := yamlfile.Open(path, yamlfile.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := store.Lookup(context.Background(), secret.Hash())
	fmt.Println(key.ID, key.Enabled, err)

	_, err = store.Lookup(context.Background(), keystore.Secret("sk_guess").Hash())
	fmt.Println(err)
	// Output:
	// key_acme true <nil>
	// no such key
}
