package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"extauthz/keystore"
)

func idsAfter(t *testing.T, b Backend, after string) []string {
	t.Helper()
	var ids []string
	for k, err := range b.Keys(t.Context(), after) {
		must(t, err)
		ids = append(ids, k.ID)
	}
	return ids
}

func (s suite) keys(t *testing.T) {
	b := s.open(t)
	if ids := idsAfter(t, b, ""); len(ids) > 0 {
		t.Fatalf("an empty store lists %q", ids)
	}
	ids := []string{"b", "a", "B", "_", "a_b", "a.b", "a:b", "a-b", "ab", "A", "aB", "a0", "10", "9", "key_1", "key_10", "key_2"}
	for _, id := range ids {
		must(t, b.Add(t.Context(), NewKey(id)))
	}
	slices.Sort(ids) // by bytes
	for _, after := range slices.Concat([]string{"", "0", "a~", "key_", "zzz", "~"}, ids) {
		want := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id <= after })
		if got := idsAfter(t, b, after); !slices.Equal(got, want) {
			t.Errorf("after %q: %q, want %q", after, got, want)
		}
	}
	var first []string
	for k, err := range b.Keys(t.Context(), "") { // the loop may stop early
		must(t, err)
		same(t, k, NewKey(k.ID))
		if first = append(first, k.ID); len(first) == 3 {
			break
		}
	}
	if !slices.Equal(first, ids[:3]) {
		t.Errorf("the first are %q, want %q", first, ids[:3])
	}
	for k, err := range b.Keys(t.Context(), "") { // and may edit the keys
		must(t, err)
		must(t, b.Delete(t.Context(), k.ID))
	}
	if ids := idsAfter(t, b, ""); len(ids) > 0 {
		t.Errorf("after all were deleted, %q are listed", ids)
	}
}

// cancelled: a call whose ctx has ended does not return ErrNotFound, and edits write nothing. A lookup
// may still answer from memory.
func (s suite) cancelled(t *testing.T) {
	b := s.open(t)
	k := NewKey("key_a", "10.0.0.0/8")
	must(t, b.Add(t.Context(), k))
	finds(t, b, k)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := b.Lookup(ctx, k.Hash); err == nil {
		same(t, got, k)
	} else if errors.Is(err, keystore.ErrNotFound) {
		t.Error("Lookup: ErrNotFound for a key that is there")
	}
	var listing error
	for _, err := range b.Keys(ctx, "") {
		listing = err
	}
	_, reading := b.Key(ctx, k.ID)
	for call, err := range map[string]error{
		"Keys":   listing,
		"Key":    reading,
		"Add":    b.Add(ctx, NewKey("key_b")),
		"Put":    b.Put(ctx, []*keystore.Key{NewKey("key_c")}),
		"Update": b.Update(ctx, k.ID, func(k *keystore.Key) error { k.Name = "changed"; return nil }),
		"Delete": b.Delete(ctx, k.ID),
	} {
		if err == nil || errors.Is(err, keystore.ErrNotFound) || errors.Is(err, keystore.ErrExists) {
			t.Errorf("%s: error %v, want that the call was cancelled", call, err)
		}
	}
	if ids := idsAfter(t, b, ""); !slices.Equal(ids, []string{k.ID}) {
		t.Errorf("the store holds %q, want key_a alone", ids)
	}
	holds(t, b, k)
}

// version returns a key whose fields all contain the same number.
func version(i int) *keystore.Key {
	k := NewKey("key_a", fmt.Sprintf("10.0.%d.%d", i/256, i%256))
	k.Name, k.ExternalID = "version "+strconv.Itoa(i), strconv.Itoa(i)
	k.Meta = fmt.Appendf(nil, `{"version":%d}`, i)
	return k
}

// wholeRecords: a lookup during an edit returns the old record or the new one, never a mix.
func (s suite) wholeRecords(t *testing.T) {
	b := s.open(t)
	const versions = 40
	must(t, b.Add(t.Context(), version(0)))
	finds(t, b, version(0))

	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				k, err := b.Lookup(t.Context(), version(0).Hash)
				if err != nil {
					t.Errorf("a key that is being edited: %v", err)
					return
				}
				i, err := strconv.Atoi(k.ExternalID)
				if err != nil || Describe(k) != Describe(version(i)) {
					t.Errorf("a mix of versions:\n%s", Describe(k))
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
	for i := 1; i <= versions; i++ {
		next := version(i)
		if i%2 == 0 {
			must(t, b.Put(t.Context(), []*keystore.Key{next}))
			continue
		}
		must(t, b.Update(t.Context(), next.ID, func(k *keystore.Key) error { *k = *next; return nil }))
	}
	finds(t, b, version(versions))
	close(done)
	wg.Wait()
}

// notShared: the caller may change the keys that it passed in, and the key that Update passed to change.
func (s suite) notShared(t *testing.T) {
	b := s.open(t)
	want := FullKey("key_a")
	given := want.Clone()
	must(t, b.Add(t.Context(), given))
	spoil(given)
	holds(t, b, want)
	finds(t, b, want)

	given = want.Clone()
	must(t, b.Put(t.Context(), []*keystore.Key{given}))
	spoil(given)
	holds(t, b, want)
	finds(t, b, want)

	refused := errors.New("refused")
	isError(t, b.Update(t.Context(), want.ID, func(k *keystore.Key) error { spoil(k); return refused }), refused)
	holds(t, b, want)
	finds(t, b, want)

	var kept *keystore.Key
	must(t, b.Update(t.Context(), want.ID, func(k *keystore.Key) error { kept = k; return nil }))
	spoil(kept)
	holds(t, b, want)
	finds(t, b, want)
}

// spoil changes every field of the key in place.
func spoil(k *keystore.Key) {
	k.Name, k.Enabled, k.Hash = "spoilt", !k.Enabled, keystore.Hash{1}
	k.Meta[0] = 'x'
	for i := range k.Permissions {
		k.Permissions[i] = "spoilt"
	}
	for i := range k.Roles {
		k.Roles[i] = "spoilt"
	}
	for i := range k.Ratelimits {
		k.Ratelimits[i].Limit = 1 << 40
	}
}
