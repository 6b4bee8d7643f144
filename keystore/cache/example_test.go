package cache_test

import (
	"context"
	"fmt"

	"extauthz/keystore"
	"extauthz/keystore/cache"
)

// database is a store that can be unreachable.
type database struct {
	key  keystore.Key
	down error
}

func (d *database) Lookup(_ context.Context, h keystore.Hash) (*keystore.Key, error) {
	if d.down != nil {
		return nil, d.down
	}
	if h != d.key.Hash {
		return nil, keystore.ErrNotFound
	}
	return &d.key, nil
}

func Example() {
	known, unknown := keystore.Secret("sk_live_1").Hash(), keystore.Secret("sk_live_2").Hash()
	db := &database{key: keystore.Key{ID: "key_acme", Hash: known, Enabled: true, Whitelist: keystore.Anywhere()}}
	c, err := cache.New(db, cache.DefaultConfig())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	key, err := c.Lookup(context.Background(), known)
	fmt.Println(key.ID, err)

	db.down = fmt.Errorf("no route to the database")
	key, err = c.Lookup(context.Background(), known)
	fmt.Println(key.ID, err)
	_, err = c.Lookup(context.Background(), unknown)
	fmt.Println(err)
	// Output:
	// key_acme <nil>
	// key_acme <nil>
	// no route to the database
}
