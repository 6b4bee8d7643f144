package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"extauthz/keystore"
)

func (s suite) lookup(t *testing.T) {
	b := s.open(t)
	absent := SecretOf("absent").Hash()
	for _, h := range []keystore.Hash{{}, absent} {
		k, err := b.Lookup(t.Context(), h)
		if k != nil || !errors.Is(err, keystore.ErrNotFound) {
			t.Fatalf("an empty store finds %v, error %v; want ErrNotFound", k, err)
		}
	}
	one, other := NewKey("key_one"), NewKey("key_other", "192.0.2.0/24")
	must(t, b.Add(t.Context(), one))
	must(t, b.Add(t.Context(), other))
	finds(t, b, one)
	finds(t, b, other)
	loses(t, b, absent)
	near := one.Hash
	near[len(near)-1] ^= 1
	loses(t, b, near)
}

func (s suite) roundTrip(t *testing.T) {
	b := s.open(t)
	full := FullKey("key_full")
	must(t, full.Validate())
	keys := []*keystore.Key{full, NewKey("key_bare")}
	for i, entry := range []string{
		"192.0.2.7", "192.0.2.0/24", "0.0.0.0/0", "255.255.255.255",
		"2001:db8::7", "2001:db8::/32", "::/0", "::", "::ffff:192.0.2.9",
	} {
		keys = append(keys, NewKey(fmt.Sprintf("key_entry_%d", i), entry))
	}
	disabled := NewKey("key_disabled")
	disabled.Enabled = false
	order := NewKey("key_order", "10.0.0.9", "10.0.0.1", "::1", "10.0.0.9") // order and duplicates are kept
	unusual := NewKey("a.Z_0-9:b")
	unusual.Name = "true" // some formats read this as another type
	unusual.ExternalID = "007"
	for _, k := range append(keys, disabled, order, unusual) {
		must(t, b.Add(t.Context(), k))
		holds(t, b, k)
		finds(t, b, k)
	}
}

func (s suite) add(t *testing.T) {
	b := s.open(t)
	k := NewKey("key_a", "10.0.0.0/8")
	must(t, b.Add(t.Context(), k))
	finds(t, b, k)

	sameID := NewKey("key_a")
	sameID.Hash = SecretOf("another").Hash()
	isError(t, b.Add(t.Context(), sameID), keystore.ErrExists)
	sameHash := NewKey("key_b")
	sameHash.Hash = k.Hash
	isError(t, b.Add(t.Context(), sameHash), keystore.ErrExists)
	isError(t, b.Add(t.Context(), k), keystore.ErrExists)

	holds(t, b, k)
	finds(t, b, k)
	_, err := b.Key(t.Context(), "key_b")
	isError(t, err, keystore.ErrNotFound)
	loses(t, b, sameID.Hash)
}

// validate: every edit refuses an invalid key, and writes nothing.
func (s suite) validate(t *testing.T) {
	b := s.open(t)
	valid := NewKey("key_valid", "10.0.0.0/8")
	must(t, b.Add(t.Context(), valid))
	for name, spoil := range map[string]func(*keystore.Key){
		"no id":            func(k *keystore.Key) { k.ID = "" },
		"bad id":           func(k *keystore.Key) { k.ID = "key one" },
		"no hash":          func(k *keystore.Key) { k.Hash = keystore.Hash{} },
		"control in name":  func(k *keystore.Key) { k.Name = "a\nb" },
		"bad external id":  func(k *keystore.Key) { k.ExternalID = "a\r\nb" },
		"empty whitelist":  func(k *keystore.Key) { k.Whitelist = keystore.Whitelist{} },
		"bad meta":         func(k *keystore.Key) { k.Meta = []byte("{") },
		"bad permission":   func(k *keystore.Key) { k.Permissions = []string{"a b"} },
		"bad role":         func(k *keystore.Key) { k.Roles = []string{""} },
		"no limit":         func(k *keystore.Key) { k.Ratelimits = []keystore.Ratelimit{{Name: "a", Duration: time.Second}} },
		"limit's duration": func(k *keystore.Key) { k.Ratelimits = []keystore.Ratelimit{{Name: "a", Limit: 1}} },
	} {
		bad := NewKey("key_bad")
		spoil(bad)
		if err := b.Add(t.Context(), bad); err == nil {
			t.Errorf("%s: Add accepted it", name)
		}
		if err := b.Put(t.Context(), []*keystore.Key{bad}); err == nil {
			t.Errorf("%s: Put accepted it", name)
		}
		if _, err := b.AddAbsent(t.Context(), []*keystore.Key{bad}); err == nil {
			t.Errorf("%s: AddAbsent took it", name)
		}
		err := b.Update(t.Context(), valid.ID, func(k *keystore.Key) error { spoil(k); return nil })
		if err == nil {
			t.Errorf("%s: Update accepted it", name)
		}
	}
	if ids := idsAfter(t, b, ""); !slices.Equal(ids, []string{valid.ID}) {
		t.Errorf("the store holds %q, want the valid key alone", ids)
	}
	holds(t, b, valid)
}

func (s suite) put(t *testing.T) {
	b := s.open(t)
	must(t, b.Put(t.Context(), nil))
	keys := make([]*keystore.Key, 1000)
	for i := range keys {
		keys[i] = NewKey(fmt.Sprintf("key_%04d", i), fmt.Sprintf("10.0.%d.%d", i/256, i%256))
	}
	must(t, b.Put(t.Context(), keys))
	must(t, b.Put(t.Context(), keys)) // again: nothing changes
	want := make([]string, len(keys))
	for i, k := range keys {
		want[i] = k.ID
	}
	if ids := idsAfter(t, b, ""); !slices.Equal(ids, want) {
		t.Fatalf("%d keys listed, want the %d that were put, each once and in order", len(ids), len(want))
	}
	for _, k := range keys[:50] {
		finds(t, b, k)
	}
	finds(t, b, keys[len(keys)-1])

	// New and known ids in one call: known keys are replaced completely, including the hash.
	changed, old := NewKey(keys[7].ID, "192.0.2.0/24"), keys[7].Hash
	changed.Hash, changed.Name = SecretOf("rotated").Hash(), "changed"
	fresh := FullKey("key_fresh")
	must(t, b.Put(t.Context(), []*keystore.Key{changed, fresh, keys[8]}))
	for _, k := range []*keystore.Key{changed, fresh, keys[8]} {
		holds(t, b, k)
		finds(t, b, k)
	}
	loses(t, b, old)
}

func (s suite) putHeldHash(t *testing.T) {
	b := s.open(t)
	k := NewKey("key_a", "10.0.0.0/8")
	must(t, b.Add(t.Context(), k))
	duplicate := NewKey("key_b")
	duplicate.Hash = k.Hash
	isError(t, b.Put(t.Context(), []*keystore.Key{duplicate}), keystore.ErrExists)
	_, err := b.Key(t.Context(), duplicate.ID)
	isError(t, err, keystore.ErrNotFound)
	holds(t, b, k)
	finds(t, b, k)

	twins := []*keystore.Key{NewKey("key_c"), NewKey("key_d")}
	twins[1].Hash = twins[0].Hash
	isError(t, b.Put(t.Context(), twins), keystore.ErrExists)
}

func (s suite) update(t *testing.T) {
	b := s.open(t)
	k := FullKey("key_a")
	must(t, b.Add(t.Context(), k))
	must(t, b.Add(t.Context(), NewKey("key_b")))
	finds(t, b, k)

	want := NewKey("key_a", "192.0.2.1") // every other field is reset
	want.Name = "renamed"
	must(t, b.Update(t.Context(), "key_a", func(got *keystore.Key) error {
		same(t, got, k)
		*got = *want.Clone()
		return nil
	}))
	holds(t, b, want)
	finds(t, b, want)
	holds(t, b, NewKey("key_b"))

	must(t, b.Update(t.Context(), "key_a", func(got *keystore.Key) error {
		*got = *k.Clone()
		got.Whitelist = keystore.Anywhere()
		return nil
	}))
	k.Whitelist = keystore.Anywhere()
	holds(t, b, k)
	finds(t, b, k)
}

func (s suite) updateRefused(t *testing.T) {
	b := s.open(t)
	k, other := NewKey("key_a", "10.0.0.0/8"), NewKey("key_b")
	must(t, b.Add(t.Context(), k))
	must(t, b.Add(t.Context(), other))

	own := errors.New("the change's own error")
	err := b.Update(t.Context(), k.ID, func(k *keystore.Key) error { k.Name = "changed"; return own })
	isError(t, err, own)
	if err := b.Update(t.Context(), k.ID, func(k *keystore.Key) error { k.ID = "key_c"; return nil }); err == nil {
		t.Error("Update changed an id")
	}
	err = b.Update(t.Context(), k.ID, func(k *keystore.Key) error { k.Hash = other.Hash; return nil })
	isError(t, err, keystore.ErrExists)
	err = b.Update(t.Context(), "absent", func(*keystore.Key) error { t.Error("change was called for no key"); return nil })
	isError(t, err, keystore.ErrNotFound)

	holds(t, b, k)
	holds(t, b, other)
	if ids := idsAfter(t, b, ""); !slices.Equal(ids, []string{"key_a", "key_b"}) {
		t.Errorf("the store holds %q, want key_a and key_b", ids)
	}
	finds(t, b, k)
	finds(t, b, other)
}

func (s suite) updateConcurrent(t *testing.T) {
	b := s.open(t)
	must(t, b.Add(t.Context(), NewKey("key_a", "10.1.0.0")))
	const editors = 16
	var wg sync.WaitGroup
	for i := range editors {
		wg.Go(func() {
			err := b.Update(t.Context(), "key_a", func(k *keystore.Key) error {
				add := Whitelist(fmt.Sprintf("10.0.0.%d", i)).Prefixes()
				k.Whitelist = keystore.NewWhitelist(slices.Concat(k.Whitelist.Prefixes(), add))
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	k, err := b.Key(t.Context(), "key_a")
	must(t, err)
	for i := range editors {
		if entry := fmt.Sprintf("10.0.0.%d", i); !slices.Contains(k.Whitelist.Prefixes(), Whitelist(entry).Prefixes()[0]) {
			t.Errorf("%s was lost", entry)
		}
	}
	if n := len(k.Whitelist.Prefixes()); n != editors+1 {
		t.Errorf("%d entries, want %d", n, editors+1)
	}
	finds(t, b, k)
}

func (s suite) rotateHash(t *testing.T) {
	b := s.open(t)
	k := FullKey("key_a")
	must(t, b.Add(t.Context(), k))
	finds(t, b, k)
	old := k.Hash
	k.Hash = SecretOf("rotated").Hash()
	must(t, b.Update(t.Context(), k.ID, func(got *keystore.Key) error { got.Hash = k.Hash; return nil }))
	finds(t, b, k)
	loses(t, b, old)

	heir := NewKey("key_b") // the old hash is free again
	heir.Hash = old
	must(t, b.Add(t.Context(), heir))
	finds(t, b, heir)
	finds(t, b, k)
}

func (s suite) delete(t *testing.T) {
	b := s.open(t)
	k, other := FullKey("key_a"), NewKey("key_b")
	must(t, b.Add(t.Context(), k))
	must(t, b.Add(t.Context(), other))
	finds(t, b, k)
	must(t, b.Delete(t.Context(), k.ID))
	_, err := b.Key(t.Context(), k.ID)
	isError(t, err, keystore.ErrNotFound)
	loses(t, b, k.Hash)
	isError(t, b.Delete(t.Context(), k.ID), keystore.ErrNotFound)
	finds(t, b, other)

	again := NewKey(k.ID, "192.0.2.0/24") // id and hash are free again
	must(t, b.Add(t.Context(), again))
	holds(t, b, again)
	finds(t, b, again)
}
