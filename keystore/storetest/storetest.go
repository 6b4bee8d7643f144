// Package storetest is the conformance test of key stores. The test of a store calls [Run], and
// [RunWatcher] if the store is a [keystore.Watcher].
package storetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/polltest"
)

// A Backend is a store whose keys can be edited.
type Backend interface {
	keystore.Store
	keystore.Editor
}

// Run tests the contracts of [keystore.Store] and [keystore.Editor]. open returns a new, empty store for
// each subtest, and cleans up by t.Cleanup.
//
// The Editor must read its own edits at once. Lookup may see them later, for example because of a cache
// or a file that is polled: Run waits up to 10 s for that.
func Run(t *testing.T, open func(t *testing.T) Backend) {
	s := suite{open: open}
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"Lookup", s.lookup},
		{"RoundTrip", s.roundTrip},
		{"Add", s.add},
		{"Validate", s.validate},
		{"AddAbsent", s.addAbsent},
		{"AddAbsentHeldHash", s.addAbsentHeldHash},
		{"AddAbsentConcurrent", s.addAbsentConcurrent},
		{"Put", s.put},
		{"PutHeldHash", s.putHeldHash},
		{"Update", s.update},
		{"UpdateRefused", s.updateRefused},
		{"UpdateConcurrent", s.updateConcurrent},
		{"RotateHash", s.rotateHash},
		{"Delete", s.delete},
		{"Keys", s.keys},
		{"Cancelled", s.cancelled},
		{"WholeRecords", s.wholeRecords},
		{"NotShared", s.notShared},
		{"Previous", s.previous},
		{"PreviousTaken", s.previousTaken},
		{"PreviousMoves", s.previousMoves},
		{"PreviousInvalid", s.previousInvalid},
		{"WhitelistMode", s.whitelistMode},
		{"RotateBesideLookups", s.rotateBesideLookups},
	} {
		t.Run(test.name, test.run)
	}
}

// NewKey returns a valid, enabled key that may be used from the entries of the whitelist, or from
// anywhere without entries. Its hash is that of [SecretOf] its id. NewKey panics if an entry is invalid.
func NewKey(id string, whitelist ...string) *keystore.Key {
	k := &keystore.Key{ID: id, Hash: SecretOf(id).Hash(), Whitelist: keystore.Anywhere(), Enabled: true}
	if len(whitelist) > 0 {
		k.Whitelist = Whitelist(whitelist...)
	}
	return k
}

// SecretOf returns the secret of the key that [NewKey] returns for this id.
func SecretOf(id string) keystore.Secret { return keystore.Secret("secret of " + id) }

// Whitelist returns the whitelist of the entries. It panics if an entry is invalid.
func Whitelist(entries ...string) keystore.Whitelist {
	prefixes := make([]netip.Prefix, len(entries))
	for i, e := range entries {
		p, err := keystore.ParseWhitelistEntry(e)
		if err != nil {
			panic("storetest: " + err.Error())
		}
		prefixes[i] = p
	}
	return keystore.NewWhitelist(prefixes)
}

type suite struct {
	open func(*testing.T) Backend
}

// FullKey returns a key that sets every field that stores support.
func FullKey(id string) *keystore.Key {
	k := NewKey(id, "192.168.1.100", "10.0.0.0/8", "2001:db8::/32", "2001:db8:1::7", "0.0.0.0/0", "::/0")
	k.WhitelistMode = keystore.Report
	k.Previous = keystore.PreviousSecret{Hash: SecretOf("old " + id).Hash(), Until: time.Date(2027, 2, 28, 1, 2, 3, 456789000, time.UTC)}
	k.Name = `Zürich & 東京: "prod" – #1, 'x' 🔑`
	k.Enabled = false
	k.Expires = time.Date(2027, 1, 31, 23, 59, 58, 123456000, time.UTC)
	k.ExternalID = "acme: #42"
	k.Meta = json.RawMessage(`{"plan":"pro","seats":12,"share":0.5,"tags":["a","ü",null,true],"nested":{"yes":"no","empty":""}}`)
	k.Permissions = []string{"documents.read", "documents.*", "admin:users/write"}
	k.Roles = []string{"reader", "billing"}
	k.Ratelimits = []keystore.Ratelimit{
		{Name: "requests", Limit: 100, Duration: time.Minute},
		{Name: "exports", Limit: 5, Duration: 90 * time.Minute, OnDemand: true},
	}
	return k
}

// Describe returns a key as text. Equivalent keys have the same text.
func Describe(k *keystore.Key) string {
	if k == nil {
		return "no key"
	}
	whitelist := "anywhere"
	if k.Whitelist.Restricted() {
		whitelist = fmt.Sprint(k.Whitelist.Prefixes())
	}
	expires := "never"
	if !k.Expires.IsZero() {
		expires = k.Expires.UTC().Format(time.RFC3339Nano)
	}
	previous := "none"
	if p := k.Previous; p != (keystore.PreviousSecret{}) {
		previous = p.Hash.String() + " until " + p.Until.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("id %s\nname %s\nhash %s\nwhitelist %s, %s\nenabled %t\nexpires %s\nprevious %s\nexternal_id %s\npermissions %q\nroles %q\nratelimits %v\nmeta %s\nbroken %v\n",
		k.ID, k.Name, k.Hash, whitelist, k.WhitelistMode, k.Enabled, expires, previous, k.ExternalID,
		k.Permissions, k.Roles, k.Ratelimits, canonical(k.Meta), k.Broken)
}

// canonical returns JSON with sorted fields and no spaces, which databases do not preserve.
func canonical(meta json.RawMessage) string {
	if len(meta) == 0 || string(meta) == "null" {
		return "none"
	}
	d := json.NewDecoder(bytes.NewReader(meta))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return fmt.Sprintf("not JSON: %s", meta)
	}
	b, _ := json.Marshal(v) // what was decoded can be encoded
	return string(b)
}

func same(t *testing.T, got, want *keystore.Key) {
	t.Helper()
	if g, w := Describe(got), Describe(want); g != w {
		t.Fatalf("the key differs\ngot:\n%s\nwant:\n%s", g, w)
	}
}

// must fails the test if err is not nil.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until ok returns true. The text that it returns is the message of the failure.
func eventually(t *testing.T, ok func() (bool, string)) {
	t.Helper()
	polltest.NoError(t, func() error {
		if done, got := ok(); !done {
			return errors.New(got)
		}
		return nil
	})
}

// finds waits until the store returns exactly this key for its hash.
func finds(t *testing.T, s keystore.Store, want *keystore.Key) {
	t.Helper()
	eventually(t, func() (bool, string) {
		got, err := s.Lookup(t.Context(), want.Hash)
		return err == nil && Describe(got) == Describe(want), fmt.Sprintf("%s(error: %v)\nwant:\n%s", Describe(got), err, Describe(want))
	})
}

// loses waits until the store returns ErrNotFound for this hash.
func loses(t *testing.T, s keystore.Store, h keystore.Hash) {
	t.Helper()
	eventually(t, func() (bool, string) {
		k, err := s.Lookup(t.Context(), h)
		return k == nil && errors.Is(err, keystore.ErrNotFound), fmt.Sprintf("%s(error: %v)", Describe(k), err)
	})
}

// holds checks that the editor returns exactly this key for its id.
func holds(t *testing.T, b Backend, want *keystore.Key) {
	t.Helper()
	got, err := b.Key(t.Context(), want.ID)
	must(t, err)
	same(t, got, want)
}

func isError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}
