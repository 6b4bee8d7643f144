package redis

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/redisclient/redistest"
)

// member returns the member of the index for a key.
func member(id string, h keystore.Hash) string { return id + " " + h.String() }

// A record that cannot be read refuses its key, is reported with its id, and affects no other.
func TestBrokenRecords(t *testing.T) {
	r := redistest.Start(t)
	reported := map[string]error{}
	s := open(t, Options{URL: r.URL(), OnBroken: func(id string, err error) { reported[id] = err }})
	sound := storetest.NewKey("key_sound", "10.0.0.0/8")
	must(t, s.Add(t.Context(), sound))
	write := func(id, record string) *keystore.Key {
		k := storetest.NewKey(id)
		r.CLI("SET", s.names.record(k.Hash), record)
		r.CLI("ZADD", s.names.ids, "0", member(id, k.Hash))
		return k
	}
	typo := write("key_typo", `{"id":"key_typo","ip_whitelst":["10.0.0.0/8"]}`)
	text := write("key_text", `once upon a time`)
	alien := write("key_alien", `{"id":"key_other"}`)
	list := storetest.NewKey("key_list")
	r.CLI("LPUSH", s.names.record(list.Hash), "x")
	r.CLI("ZADD", s.names.ids, "0", member(list.ID, list.Hash))

	for _, k := range []*keystore.Key{typo, text, list} {
		got, err := s.Lookup(t.Context(), k.Hash)
		if err != nil || got.Broken == nil || !got.Whitelist.Equal(keystore.Whitelist{}) || !got.Enabled {
			t.Errorf("%s: %+v, %v; want a broken key", k.ID, got, err)
		}
	}
	fallback := func(k *keystore.Key) string { return "sha256:" + k.Hash.String()[:16] }
	if got, want := slices.Sorted(maps.Keys(reported)), []string{"key_typo", fallback(text), fallback(list)}; len(got) != len(want) || reported[want[0]] == nil || reported[want[1]] == nil || reported[want[2]] == nil {
		t.Errorf("reported %q, want %q", got, want)
	}

	broken := map[string]bool{}
	for k, err := range s.Keys(t.Context(), "") {
		must(t, err)
		broken[k.ID] = k.Broken != nil
	}
	if want := map[string]bool{"key_sound": false, "key_typo": true, "key_text": true, "key_alien": true, "key_list": true}; !maps.Equal(broken, want) {
		t.Errorf("listed as broken: %v, want %v", broken, want)
	}
	if err := s.Update(t.Context(), typo.ID, func(*keystore.Key) error { return nil }); err == nil {
		t.Error("a broken key was updated")
	}
	must(t, s.Put(t.Context(), []*keystore.Key{typo, list})) // which repairs them
	for _, k := range []*keystore.Key{typo, list, sound} {
		if got, err := s.Key(t.Context(), k.ID); err != nil || got.Broken != nil {
			t.Errorf("%s: %v, %v", k.ID, got, err)
		}
	}
	must(t, s.Delete(t.Context(), text.ID))
	if err := s.Delete(t.Context(), alien.ID); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("deleting what is another's: %v", err)
	}
	if r.CLI("EXISTS", s.names.record(alien.Hash)) != "1" {
		t.Error("another's record was deleted")
	}
}

// Incomplete manual changes have no effect, and the next edit removes them.
func TestIndexMended(t *testing.T) {
	r := redistest.Start(t)
	s := open(t, Options{URL: r.URL()})
	k := storetest.NewKey("key_a")
	must(t, s.Add(t.Context(), k))
	r.CLI("DEL", s.names.record(k.Hash))
	if _, err := s.Key(t.Context(), k.ID); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("a record that was deleted: %v", err)
	}
	again := storetest.NewKey("key_a")
	again.Hash = storetest.SecretOf("another").Hash()
	must(t, s.Add(t.Context(), again))
	if got, want := r.CLI("ZRANGE", s.names.ids, "0", "-1"), member(again.ID, again.Hash); got != want {
		t.Errorf("the index holds %q, want %q", got, want)
	}

	r.CLI("ZREM", s.names.ids, member(again.ID, again.Hash)) // now only the record is there
	must(t, s.Put(t.Context(), []*keystore.Key{again}))
	must(t, s.Delete(t.Context(), again.ID))
	if got := r.CLI("KEYS", "*"); got != s.names.audit {
		t.Errorf("left over: %s", got)
	}
}

// A time to live that an operator set on a record is kept, even when its hash changes.
func TestTimeToLiveKept(t *testing.T) {
	r := redistest.Start(t)
	s := open(t, Options{URL: r.URL()})
	k := storetest.NewKey("key_a")
	must(t, s.Add(t.Context(), k))
	r.CLI("EXPIRE", s.names.record(k.Hash), "1000")
	rotated := storetest.SecretOf("rotated").Hash()
	must(t, s.Update(t.Context(), k.ID, func(k *keystore.Key) error { k.Hash = rotated; return nil }))
	if got := r.CLI("TTL", s.names.record(rotated)); got == "-1" || got == "-2" {
		t.Errorf("the time to live is %s", got)
	}
}
