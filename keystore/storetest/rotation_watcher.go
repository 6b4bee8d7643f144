package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/cache"
)

// watchReportsPrevious: a change of a key is one for its previous hash, too.
func watchReportsPrevious(t *testing.T, b Backend) {
	var r recorder
	watch(t, b, &r)
	eventually(t, func() (bool, string) { return len(r.since(0)) > 0, "nothing is reported" })
	k := RotatedKey("key_a")
	edit := func(do func() error, hashes ...keystore.Hash) {
		t.Helper()
		n := len(r.since(0))
		must(t, do())
		eventually(t, func() (bool, string) {
			got := r.since(n)
			missing := slices.DeleteFunc(slices.Clone(hashes), func(h keystore.Hash) bool {
				return slices.Contains(got, h) || slices.Contains(got, keystore.Hash{})
			})
			return len(missing) == 0, fmt.Sprintf("reported %v, missing %v", got, missing)
		})
	}
	ctx := t.Context()
	next := SecretOf("next").Hash()
	edit(func() error { return b.Add(ctx, k) }, k.Hash, k.Previous.Hash)
	_, err := b.Lookup(ctx, k.Previous.Hash) // like a cache that needs notifications
	must(t, err)
	edit(func() error {
		return b.Update(ctx, k.ID, func(k *keystore.Key) error { k.Enabled = false; return nil })
	}, k.Hash, k.Previous.Hash)
	_, err = b.Lookup(ctx, k.Previous.Hash)
	must(t, err)
	edit(func() error {
		return b.Update(ctx, k.ID, func(k *keystore.Key) error { k.Rotate(next, k.Previous.Until); return nil })
	}, k.Hash, k.Previous.Hash, next)
	edit(func() error { return b.Put(ctx, []*keystore.Key{k}) }, k.Hash, k.Previous.Hash, next)
	edit(func() error { return b.Delete(ctx, k.ID) }, k.Hash, k.Previous.Hash)
}

// cacheFollowsRotation: a record that has changed no longer answers for its previous hash.
func cacheFollowsRotation(t *testing.T, b Backend) {
	config := cache.DefaultConfig()
	config.TTL, config.NegativeTTL, config.LookupTimeout = time.Hour, time.Hour, 10*time.Second
	c, err := cache.New(b, config)
	must(t, err)
	t.Cleanup(c.Close)
	watch(t, b, c)

	ctx := t.Context()
	k := RotatedKey("key_a")
	loses(t, c, k.Hash)
	loses(t, c, k.Previous.Hash)
	must(t, b.Add(ctx, k))
	findsBoth(t, c, k)
	for i := range 10 {
		must(t, b.Update(ctx, k.ID, func(k *keystore.Key) error { k.Enabled = !k.Enabled; return nil }))
		k.Enabled = !k.Enabled
		if i%2 == 0 { // the last one first
			finds(t, c, k)
		}
		findsBoth(t, c, k)
	}
	old := k.Clone()
	k.Rotate(SecretOf("next").Hash(), k.Previous.Until)
	must(t, b.Put(ctx, []*keystore.Key{k}))
	findsBoth(t, c, k)
	loses(t, c, old.Previous.Hash)
	must(t, b.Update(ctx, k.ID, func(k *keystore.Key) error { k.Previous = keystore.PreviousSecret{}; return nil }))
	loses(t, c, old.Hash)
	k.Previous = keystore.PreviousSecret{}
	finds(t, c, k)
	must(t, b.Put(ctx, []*keystore.Key{old}))
	findsBoth(t, c, old)
	loses(t, c, k.Hash)
	must(t, b.Delete(ctx, old.ID))
	loses(t, c, old.Hash)
	loses(t, c, old.Previous.Hash)
}
