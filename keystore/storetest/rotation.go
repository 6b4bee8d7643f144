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

// RotatedKey returns a rotated key with a whitelist in report mode. Its previous secret, [SecretOf] "old ID",
// works until the year 2100.
func RotatedKey(id string) *keystore.Key {
	k := NewKey(id, "10.0.0.0/8")
	k.WhitelistMode = keystore.Report
	k.Previous = keystore.PreviousSecret{
		Hash:  SecretOf("old " + id).Hash(),
		Until: time.Date(2100, 1, 31, 23, 59, 58, 123456000, time.UTC),
	}
	return k
}

// findsBoth waits until the store finds exactly this key by its hash and by its previous one.
func findsBoth(t *testing.T, s keystore.Store, want *keystore.Key) {
	t.Helper()
	for _, h := range []keystore.Hash{want.Hash, want.Previous.Hash} {
		eventually(t, func() (bool, string) {
			got, err := s.Lookup(t.Context(), h)
			return err == nil && Describe(got) == Describe(want), fmt.Sprintf("by %s: %s(error: %v)\nwant:\n%s", h, Describe(got), err, Describe(want))
		})
	}
}

func (s suite) previous(t *testing.T) {
	b := s.open(t)
	writes := map[string]func(k *keystore.Key) error{
		"added": func(k *keystore.Key) error { return b.Add(t.Context(), k) },
		"put":   func(k *keystore.Key) error { return b.Put(t.Context(), []*keystore.Key{k}) },
		"absent": func(k *keystore.Key) error {
			_, err := b.AddAbsent(t.Context(), []*keystore.Key{k})
			return err
		},
		"updated": func(k *keystore.Key) error {
			before := NewKey(k.ID)
			before.Hash = k.Previous.Hash
			if err := b.Add(t.Context(), before); err != nil {
				return err
			}
			finds(t, b, before)
			return b.Update(t.Context(), k.ID, func(got *keystore.Key) error { *got = *k.Clone(); return nil })
		},
	}
	for id, write := range writes {
		k := RotatedKey(id)
		must(t, write(k))
		holds(t, b, k)
		findsBoth(t, b, k)
		must(t, b.Put(t.Context(), []*keystore.Key{k})) // again: nothing changes
		must(t, b.Update(t.Context(), id, func(*keystore.Key) error { return nil }))
		findsBoth(t, b, k)
	}
	ids := idsAfter(t, b, "")
	if !slices.Equal(ids, []string{"absent", "added", "put", "updated"}) {
		t.Errorf("%q are listed, want each key once", ids)
	}
	for id := range writes {
		k := RotatedKey(id)
		must(t, b.Delete(t.Context(), id))
		loses(t, b, k.Hash)
		loses(t, b, k.Previous.Hash)
		must(t, b.Add(t.Context(), k)) // both are free again
		findsBoth(t, b, k)
	}
}

// previousTaken: a secret belongs to one key, whether it is its previous one or not.
func (s suite) previousTaken(t *testing.T) {
	b := s.open(t)
	k, other := RotatedKey("key_a"), NewKey("key_b")
	must(t, b.Add(t.Context(), k))
	must(t, b.Add(t.Context(), other))
	previous := func(h keystore.Hash) func(*keystore.Key) {
		return func(k *keystore.Key) { k.Previous = keystore.PreviousSecret{Hash: h, Until: k.Expires.Add(time.Hour)} }
	}
	for name, take := range map[string]func(*keystore.Key){
		"the hash is a previous one":     func(c *keystore.Key) { c.Hash = k.Previous.Hash },
		"the previous one is a hash":     previous(k.Hash),
		"the previous one is a previous": previous(k.Previous.Hash),
	} {
		taken := NewKey("key_c")
		taken.Expires = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
		take(taken)
		wants := func(call string, err error) {
			t.Helper()
			if !errors.Is(err, keystore.ErrExists) {
				t.Errorf("%s: %s: error %v, want ErrExists", name, call, err)
			}
		}
		wants("Add", b.Add(t.Context(), taken))
		wants("Put", b.Put(t.Context(), []*keystore.Key{taken}))
		_, err := b.AddAbsent(t.Context(), []*keystore.Key{taken})
		wants("AddAbsent", err)
		_, err = b.Key(t.Context(), taken.ID)
		isError(t, err, keystore.ErrNotFound)
		wants("Update", b.Update(t.Context(), other.ID, func(k *keystore.Key) error {
			k.Hash, k.Previous = taken.Hash, taken.Previous
			return nil
		}))
		holds(t, b, other)

		twins := []*keystore.Key{RotatedKey("key_d"), taken.Clone()}
		if name == "the hash is a previous one" {
			twins[1].Hash = twins[0].Previous.Hash
		} else {
			twins[1].Previous.Hash = twins[0].Hash
		}
		wants("Put of both", b.Put(t.Context(), twins))
		_ = b.Delete(t.Context(), "key_d") // which may have been written
	}
	findsBoth(t, b, k)
	finds(t, b, other)
}

// previousMoves: a hash that a key no longer has is free, and a key may get an earlier hash again.
func (s suite) previousMoves(t *testing.T) {
	b := s.open(t)
	hash := func(i int) keystore.Hash { return SecretOf(fmt.Sprint("move ", i)).Hash() }
	until := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	k := NewKey("key_a")
	k.Hash = hash(0)
	must(t, b.Add(t.Context(), k))
	rotate := func(to keystore.Hash) {
		t.Helper()
		must(t, b.Update(t.Context(), k.ID, func(k *keystore.Key) error { k.Rotate(to, until); return nil }))
		k.Rotate(to, until)
		holds(t, b, k)
		findsBoth(t, b, k)
	}
	rotate(hash(1))
	rotate(hash(2))
	loses(t, b, hash(0))
	heir := NewKey("key_b")
	heir.Hash = hash(0)
	must(t, b.Add(t.Context(), heir))
	finds(t, b, heir)
	rotate(hash(1)) // back, with the secrets swapped
	rotate(hash(2))

	k.Previous = keystore.PreviousSecret{} // the grace period ends early
	must(t, b.Put(t.Context(), []*keystore.Key{k}))
	finds(t, b, k)
	loses(t, b, hash(1))
	must(t, b.Update(t.Context(), heir.ID, func(k *keystore.Key) error { k.Rotate(hash(1), until); return nil }))
	heir.Rotate(hash(1), until)
	findsBoth(t, b, heir)
	finds(t, b, k)

	old := k.Clone() // an earlier record is restored
	rotate(hash(3))
	must(t, b.Put(t.Context(), []*keystore.Key{old}))
	finds(t, b, old)
	loses(t, b, hash(3))
	holds(t, b, old)
}

// previousInvalid: what Key.Validate refuses, every edit refuses.
func (s suite) previousInvalid(t *testing.T) {
	b := s.open(t)
	sound := RotatedKey("key_sound")
	must(t, b.Add(t.Context(), sound))
	for name, spoil := range map[string]func(*keystore.Key){
		"the key's own hash": func(k *keystore.Key) { k.Previous.Hash = k.Hash },
		"no hash":            func(k *keystore.Key) { k.Previous.Hash = keystore.Hash{} },
		"no end":             func(k *keystore.Key) { k.Previous.Until = time.Time{} },
	} {
		bad := RotatedKey("key_bad")
		spoil(bad)
		_, absent := b.AddAbsent(t.Context(), []*keystore.Key{bad})
		for call, err := range map[string]error{
			"Add": b.Add(t.Context(), bad), "Put": b.Put(t.Context(), []*keystore.Key{bad}), "AddAbsent": absent,
			"Update": b.Update(t.Context(), sound.ID, func(k *keystore.Key) error { spoil(k); return nil }),
		} {
			if err == nil || errors.Is(err, keystore.ErrExists) {
				t.Errorf("%s: %s: error %v, want what is invalid", name, call, err)
			}
		}
	}
	holds(t, b, sound)
	findsBoth(t, b, sound)
}

func (s suite) whitelistMode(t *testing.T) {
	b := s.open(t)
	k := NewKey("key_a", "10.0.0.0/8")
	must(t, b.Add(t.Context(), k))
	for _, mode := range []keystore.WhitelistMode{keystore.Report, keystore.Enforce, keystore.Report} {
		must(t, b.Update(t.Context(), k.ID, func(k *keystore.Key) error { k.WhitelistMode = mode; return nil }))
		k.WhitelistMode = mode
		holds(t, b, k)
		finds(t, b, k)
	}
	k.WhitelistMode = keystore.Enforce
	must(t, b.Put(t.Context(), []*keystore.Key{k}))
	holds(t, b, k)
	finds(t, b, k)
	everywhere := NewKey("key_b")
	everywhere.WhitelistMode = keystore.Report
	must(t, b.Add(t.Context(), everywhere))
	holds(t, b, everywhere)
	finds(t, b, everywhere)
}

// rotateBesideLookups: if a key alternates between two secrets, each the previous one of the other, both
// always work.
func (s suite) rotateBesideLookups(t *testing.T) {
	b := s.open(t)
	hashes := []keystore.Hash{SecretOf("one").Hash(), SecretOf("other").Hash()}
	k := NewKey("key_a")
	k.Hash = hashes[0]
	k.Previous = keystore.PreviousSecret{Hash: hashes[1], Until: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	must(t, b.Add(t.Context(), k))
	findsBoth(t, b, k)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, h := range hashes {
		wg.Go(func() {
			for {
				got, err := b.Lookup(t.Context(), h)
				if errors.Is(err, keystore.ErrNotFound) || err == nil && got.Hash != h && got.Previous.Hash != h {
					t.Errorf("a secret of a key that is being rotated: %s, error %v", Describe(got), err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := 1; i <= 20; i++ {
		must(t, b.Update(t.Context(), k.ID, func(got *keystore.Key) error {
			got.Rotate(hashes[i%2], k.Previous.Until)
			return nil
		}))
	}
	close(done)
	wg.Wait()
}
