package redis

import (
	"errors"
	"strings"
	"testing"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/polltest"
	"extauthz/redisclient/redistest"
)

// The previous secret finds the record as redis-cli changed it, even through a cache.
func TestRotationByHand(t *testing.T) {
	server := redistest.Start(t)
	r := newReplica(t, server.URL())
	r.awaitUp(t, 1)
	hash, old := storetest.SecretOf("new").Hash(), storetest.SecretOf("old").Hash()
	is := func(what string, h keystore.Hash, ok func(*keystore.Key) bool) {
		t.Helper()
		polltest.Until(t, what, func() bool {
			k, err := r.cache.Lookup(t.Context(), h)
			if errors.Is(err, keystore.ErrNotFound) {
				return ok(nil)
			}
			return err == nil && ok(k)
		})
	}
	unknown := func(k *keystore.Key) bool { return k == nil }
	record := func(fields string) string {
		return `{"id":"key_a",` + fields + `"previous":{"hash":"` + old.String() + `","until":"2100-01-01T00:00:00Z"}}`
	}
	point := func() { server.CLI("SET", r.names.record(old), `{ "current": "`+hash.String()+`" }`) }

	server.CLI("SET", r.names.record(hash), record(""))
	is("the record is found", hash, func(k *keystore.Key) bool { return k != nil && k.Previous.Hash == old })
	is("nothing leads to it", old, unknown)
	point()
	is("the previous secret works", old, func(k *keystore.Key) bool { return k != nil && k.Hash == hash && k.Enabled })
	server.CLI("SET", r.names.record(hash), record(`"enabled":false,`))
	is("it is disabled for the previous secret", old, func(k *keystore.Key) bool { return k != nil && !k.Enabled })
	server.CLI("SET", r.names.record(hash), record(`"ip_whitelist":[],`))
	is("it is broken for the previous secret", old, func(k *keystore.Key) bool { return k != nil && k.Broken != nil })
	server.CLI("SET", r.names.record(hash), `{"id":"key_a"}`)
	is("the grace is over", old, unknown)
	is("the secret works", hash, func(k *keystore.Key) bool { return k != nil && k.Broken == nil })
	server.CLI("SET", r.names.record(hash), record(""))
	is("the grace is back", old, func(k *keystore.Key) bool { return k != nil })
	server.CLI("DEL", r.names.record(old))
	is("the pointer is gone", old, unknown)
	point()
	is("the pointer is back", old, func(k *keystore.Key) bool { return k != nil })
	server.CLI("DEL", r.names.record(hash))
	is("the key is deleted", old, unknown)

	heir := storetest.NewKey("key_b") // a pointer without a record reserves no hash
	heir.Hash = old
	must(t, r.Add(t.Context(), heir))
	is("another key has the hash", old, func(k *keystore.Key) bool { return k != nil && k.ID == "key_b" })
	for _, bad := range []string{`{"current":"x"}`, `{"current":1}`, `{"current":"` + hash.String() + `","enabled":true}`, `{"current":"` + old.String() + `"}`} {
		server.CLI("SET", r.names.record(old), bad)
		is("no key is found by "+bad, old, func(k *keystore.Key) bool { return k == nil || k.Broken != nil })
	}
}

// Edits write the pointer with the record, and remove it with the record.
func TestPointers(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, Options{URL: server.URL()})
	k := storetest.RotatedKey("key_a")
	must(t, s.Put(t.Context(), []*keystore.Key{k}))
	server.CLI("DEL", s.names.record(k.Previous.Hash))
	must(t, s.Put(t.Context(), []*keystore.Key{k}))
	if got := server.CLI("GET", s.names.record(k.Previous.Hash)); got != `{"current":"`+k.Hash.String()+`"}` {
		t.Errorf("after a Put of the record that is there, the pointer is %q", got)
	}
	server.CLI("PEXPIREAT", s.names.record(k.Hash), "4102444800000")
	must(t, s.Update(t.Context(), k.ID, func(k *keystore.Key) error {
		k.Rotate(storetest.SecretOf("next").Hash(), k.Previous.Until)
		return nil
	}))
	for _, h := range []keystore.Hash{k.Hash, storetest.SecretOf("next").Hash()} {
		if got := server.CLI("PEXPIRETIME", s.names.record(h)); got != "4102444800000" {
			t.Errorf("the record, or its pointer, expires at %s", got)
		}
	}
	if got := strings.Fields(server.CLI("KEYS", "*")); len(got) != 4 {
		t.Errorf("a rotated key has %q, want its record, one pointer, the index and the trail", got)
	}

	// An index with a member for the previous hash, as a rotation by hand may leave it.
	server.CLI("ZADD", s.names.ids, "0", member(k.ID, k.Hash))
	got, err := s.Key(t.Context(), k.ID)
	if err != nil || got.Broken != nil || got.Hash != storetest.SecretOf("next").Hash() {
		t.Errorf("%+v, %v", got, err)
	}
	must(t, s.Update(t.Context(), k.ID, func(k *keystore.Key) error { k.Name = "b"; return nil }))
	if _, err := s.Lookup(t.Context(), k.Hash); err != nil {
		t.Errorf("by the previous secret: %v", err)
	}
	must(t, s.Delete(t.Context(), k.ID))
	if got := server.CLI("KEYS", "*"); got != s.names.audit {
		t.Errorf("left over: %s", got)
	}
}

// Changes of more previous hashes than are remembered invalidate everything.
func TestManyFollowed(t *testing.T) {
	b := newInbox()
	current := keystore.Hash{1}
	b.follow(keystore.Hash{2}, current)
	b.follow(keystore.Hash{2}, current)
	b.follow(keystore.Hash{3}, current)
	b.put([]keystore.Hash{current}, false)
	if changed, all := b.take(); len(changed) != 3 || all {
		t.Errorf("%v, %v; want the record and its two previous hashes", changed, all)
	}
	b.put([]keystore.Hash{current}, false)
	if changed, _ := b.take(); len(changed) != 1 {
		t.Errorf("%v, want what was followed since", changed)
	}
	for i := range maxFollowed + 1 {
		b.follow(keystore.Hash{2}, keystore.Hash{byte(i), byte(i >> 8), byte(i >> 16), 1})
	}
	<-b.ready
	if _, all := b.take(); !all {
		t.Error("not everything has changed")
	}
	if len(b.followed) > 0 {
		t.Errorf("%d are still known", len(b.followed))
	}
}

func TestCount(t *testing.T) {
	storetest.RunCount(t, open(t, Options{URL: redistest.Start(t).URL()}))
}
