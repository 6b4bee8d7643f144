package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"extauthz/keystore"
)

func (s suite) addAbsent(t *testing.T) {
	b := s.open(t)
	existing, err := b.AddAbsent(t.Context(), nil)
	if must(t, err); len(existing) != 0 {
		t.Fatalf("an empty store holds %d keys", len(existing))
	}
	keys := make([]*keystore.Key, 300)
	for i := range keys {
		keys[i] = NewKey(fmt.Sprintf("key_%04d", i), "10.0.0.0/8")
	}
	if existing, err = b.AddAbsent(t.Context(), keys); err != nil || len(existing) != 0 {
		t.Fatalf("%d of the new keys are there already, error %v", len(existing), err)
	}
	finds(t, b, keys[0])
	finds(t, b, keys[299])

	// Stored keys are returned, and do not change.
	disabled := FullKey(keys[7].ID)
	must(t, b.Put(t.Context(), []*keystore.Key{disabled}))
	other := NewKey(keys[8].ID, "192.0.2.0/24")
	other.Hash = SecretOf("rotated").Hash()
	fresh := NewKey("key_fresh")
	existing, err = b.AddAbsent(t.Context(), []*keystore.Key{keys[7], fresh, other, keys[9]})
	must(t, err)
	if len(existing) != 3 {
		t.Fatalf("%d keys are there already, want 3", len(existing))
	}
	slices.SortFunc(existing, func(a, b *keystore.Key) int { return strings.Compare(a.ID, b.ID) })
	for i, want := range []*keystore.Key{disabled, keys[8], keys[9]} {
		same(t, existing[i], want)
		holds(t, b, want)
	}
	holds(t, b, fresh)
	finds(t, b, fresh)
	loses(t, b, other.Hash)
	if n := len(idsAfter(t, b, "")); n != len(keys)+1 {
		t.Errorf("%d keys, want %d", n, len(keys)+1)
	}
}

func (s suite) addAbsentHeldHash(t *testing.T) {
	b := s.open(t)
	k := NewKey("key_a", "10.0.0.0/8")
	must(t, b.Add(t.Context(), k))
	held := NewKey("key_b")
	held.Hash = k.Hash
	_, err := b.AddAbsent(t.Context(), []*keystore.Key{held})
	isError(t, err, keystore.ErrExists)
	_, err = b.Key(t.Context(), held.ID)
	isError(t, err, keystore.ErrNotFound)
	holds(t, b, k)
	finds(t, b, k)
	twins := []*keystore.Key{NewKey("key_c"), NewKey("key_d")}
	twins[1].Hash = twins[0].Hash
	_, err = b.AddAbsent(t.Context(), twins)
	isError(t, err, keystore.ErrExists)
}

// addAbsentConcurrent: of several concurrent calls, exactly one adds a key.
func (s suite) addAbsentConcurrent(t *testing.T) {
	b := s.open(t)
	const writers, n = 4, 50
	var added atomic.Int64
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			keys := make([]*keystore.Key, n)
			for i := range keys {
				keys[i] = NewKey(fmt.Sprintf("key_%04d", i))
				keys[i].Name = fmt.Sprint("of writer ", w)
			}
			existing, err := b.AddAbsent(t.Context(), keys)
			if err != nil {
				t.Error(err)
			}
			added.Add(int64(n - len(existing)))
		})
	}
	wg.Wait()
	if ids := idsAfter(t, b, ""); len(ids) != n || added.Load() != n {
		t.Errorf("%d keys are there, and %d were added, want %d", len(ids), added.Load(), n)
	}
}
