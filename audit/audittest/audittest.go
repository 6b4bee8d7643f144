// Package audittest is the conformance test of the trail of a store of keys.
package audittest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"extauthz/audit"
	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

// Run tests that a store records each edit. open returns a new, empty store for each subtest.
func Run(t *testing.T, open func(t *testing.T) audit.Editor) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, audit.Editor)
	}{
		{"Edits", edits},
		{"EveryField", everyField},
		{"NoChange", noChange},
		{"Refused", refused},
		{"NoHash", noHash},
		{"Import", imports},
		{"Put", put},
		{"Concurrent", concurrent},
		{"Limit", limit},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// history returns the history of a key, oldest first.
func history(t *testing.T, e audit.Editor, id string) []audit.Edit {
	t.Helper()
	edits, err := e.History(t.Context(), id, 1000)
	must(t, err)
	for i, edit := range edits {
		if edit.KeyID != id {
			t.Errorf("the history of %s has an edit of %s", id, edit.KeyID)
		}
		if age := time.Since(edit.Time); age < -time.Minute || age > 10*time.Minute || edit.Time.Location() != time.UTC {
			t.Errorf("an edit was made at %s", edit.Time)
		}
		if i > 0 && edit.Time.After(edits[i-1].Time) {
			t.Errorf("the edits are not newest first: %v", edits)
		}
	}
	slices.Reverse(edits)
	return edits
}

// line returns an edit as a line.
func line(e audit.Edit) string {
	parts := []string{fmt.Sprintf("%s: %s", e.Actor, e.Action)}
	for _, c := range e.Changes {
		parts = append(parts, fmt.Sprintf("%s %s>%s", c.Field, c.Before, c.After))
	}
	return strings.Join(parts, " | ")
}

// want checks the history of a key, oldest first.
func want(t *testing.T, e audit.Editor, id string, lines ...string) {
	t.Helper()
	var got []string
	for _, edit := range history(t, e, id) {
		got = append(got, line(edit))
	}
	if !slices.Equal(got, lines) {
		t.Errorf("the history of %s is\n  %s\nwant\n  %s", id, strings.Join(got, "\n  "), strings.Join(lines, "\n  "))
	}
}

func edits(t *testing.T, e audit.Editor) {
	want(t, e, "key_a")
	by := func(actor string, change func(k *keystore.Key)) {
		t.Helper()
		must(t, e.Update(keystore.WithActor(t.Context(), actor), "key_a", func(k *keystore.Key) error { change(k); return nil }))
	}
	ann := keystore.WithActor(t.Context(), "ann@host")
	must(t, e.Add(ann, storetest.NewKey("key_a", "192.0.2.7")))
	must(t, e.Add(ann, storetest.NewKey("key_ab")))
	by("bob@example.com", func(k *keystore.Key) { k.Whitelist = storetest.Whitelist("192.0.2.7", "10.0.0.0/8", "2001:db8::7") })
	by("bob@example.com", func(k *keystore.Key) { k.Whitelist = storetest.Whitelist("10.0.0.0/8") })
	by("ann@host", func(k *keystore.Key) { k.Enabled = false; k.Name = `Zürich & "東京" <1>` })
	by("ann@host", func(k *keystore.Key) {
		k.Rotate(storetest.SecretOf("new").Hash(), time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC))
	})
	by("ann@host", func(k *keystore.Key) { k.Expires = time.Date(2101, 1, 2, 3, 4, 5, 678000000, time.UTC) })
	must(t, e.Delete(keystore.WithActor(t.Context(), "eve"), "key_a"))
	lines := []string{
		`ann@host: add | ip_whitelist >["192.0.2.7"] | enabled >true`,
		`bob@example.com: change | ip_whitelist ["192.0.2.7"]>["192.0.2.7","10.0.0.0/8","2001:db8::7"]`,
		`bob@example.com: change | ip_whitelist ["192.0.2.7","10.0.0.0/8","2001:db8::7"]>["10.0.0.0/8"]`,
		`ann@host: change | name >"Zürich & \"東京\" <1>" | enabled true>false`,
		`ann@host: change | hash > | previous >{"until":"2100-01-02T03:04:05Z"}`,
		`ann@host: change | expires >"2101-01-02T03:04:05.678Z"`,
		`eve: delete | name "Zürich & \"東京\" <1>"> | ip_whitelist ["10.0.0.0/8"]> | previous {"until":"2100-01-02T03:04:05Z"}>` +
			` | enabled false> | expires "2101-01-02T03:04:05.678Z">`,
	}
	want(t, e, "key_a", lines...)
	want(t, e, "key_ab", `ann@host: add | enabled >true`)
	must(t, e.Add(ann, storetest.NewKey("key_a"))) // again
	want(t, e, "key_a", append(lines, `ann@host: add | enabled >true`)...)
	want(t, e, "key")
	want(t, e, "")
	want(t, e, `"`)
}

// Each field of a key is recorded when it changes. This test fails for a new field until the store records it.
func everyField(t *testing.T, e audit.Editor) {
	full := storetest.FullKey("key_a")
	bare := storetest.NewKey("key_a")
	bare.Hash = storetest.SecretOf("another").Hash()
	must(t, e.Add(t.Context(), bare))
	names := map[string]string{
		"Name": "name", "Hash": "hash", "Whitelist": "ip_whitelist", "Enabled": "enabled", "Expires": "expires", "ExternalID": "external_id",
		"WhitelistMode": "ip_whitelist_mode", "Previous": "previous", "Permissions": "permissions", "Roles": "roles", "Ratelimits": "ratelimits", "Meta": "meta",
	}
	for f := range reflect.TypeFor[keystore.Key]().Fields() {
		if f.Name == "ID" || f.Name == "Broken" {
			continue
		}
		must(t, e.Update(t.Context(), "key_a", func(k *keystore.Key) error {
			reflect.ValueOf(k).Elem().FieldByName(f.Name).Set(reflect.ValueOf(*full).FieldByName(f.Name))
			return nil
		}))
		edits, err := e.History(t.Context(), "key_a", 1)
		must(t, err)
		if len(edits) != 1 || len(edits[0].Changes) != 1 || edits[0].Changes[0].Field != names[f.Name] || names[f.Name] == "" {
			t.Errorf("a change of %s was recorded as %v", f.Name, edits)
			continue
		}
		if c := edits[0].Changes[0]; f.Name != "Hash" && !sameJSON(c.After, valueOf(full, c.Field)) {
			t.Errorf("the value of %s is %s, want %s", c.Field, c.After, valueOf(full, c.Field))
		}
	}
	must(t, e.Delete(t.Context(), "key_a"))
	edits, err := e.History(t.Context(), "key_a", 1)
	must(t, err)
	if len(edits) != 1 || len(edits[0].Changes) != len(audit.Fields)-1 { // all but hash
		t.Errorf("deleting a key that has every field was recorded as %v", edits)
	}
}

func valueOf(k *keystore.Key, field string) json.RawMessage {
	for _, c := range audit.Diff(nil, k) {
		if c.Field == field {
			return c.After
		}
	}
	return nil
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func noChange(t *testing.T, e audit.Editor) {
	full := storetest.FullKey("key_a")
	must(t, e.Add(t.Context(), full))
	must(t, e.Update(t.Context(), "key_a", func(*keystore.Key) error { return nil }))
	must(t, e.Put(t.Context(), []*keystore.Key{full}))
	_, err := e.AddAbsent(t.Context(), []*keystore.Key{full})
	must(t, err)
	if n := len(history(t, e, "key_a")); n != 1 {
		t.Errorf("%d edits are recorded, want the one", n)
	}
}

// A failed edit is not recorded.
func refused(t *testing.T, e audit.Editor) {
	must(t, e.Add(t.Context(), storetest.NewKey("key_a")))
	taken := storetest.NewKey("key_b")
	taken.Hash = storetest.SecretOf("key_a").Hash()
	for name, err := range map[string]error{
		"Add":    e.Add(t.Context(), storetest.NewKey("key_a", "10.0.0.0/8")),
		"hash":   e.Add(t.Context(), taken),
		"Put":    e.Put(t.Context(), []*keystore.Key{taken}),
		"Update": e.Update(t.Context(), "key_a", func(k *keystore.Key) error { k.Enabled = false; return errors.New("no") }),
		"Delete": e.Delete(t.Context(), "key_c"),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if n := len(history(t, e, "key_a")); n != 1 {
		t.Errorf("%d edits of key_a are recorded, want the one", n)
	}
	want(t, e, "key_b")
	want(t, e, "key_c")
}

// No edit records a hash.
func noHash(t *testing.T, e audit.Editor) {
	ctx := keystore.WithActor(t.Context(), "ann")
	full, other := storetest.FullKey("key_a"), storetest.FullKey("key_b")
	hashes := []keystore.Hash{full.Hash, full.Previous.Hash, other.Hash, other.Previous.Hash}
	must(t, e.Add(ctx, full))
	_, err := e.AddAbsent(ctx, []*keystore.Key{other})
	must(t, err)
	for i := range 3 {
		next := storetest.SecretOf(fmt.Sprint("next", i)).Hash()
		hashes = append(hashes, next)
		must(t, e.Update(ctx, "key_a", func(k *keystore.Key) error { k.Rotate(next, time.Now().Add(time.Hour)); return nil }))
	}
	rewritten := storetest.RotatedKey("key_b")
	rewritten.Hash, rewritten.Previous.Hash = storetest.SecretOf("x").Hash(), storetest.SecretOf("y").Hash()
	hashes = append(hashes, rewritten.Hash, rewritten.Previous.Hash)
	must(t, e.Put(ctx, []*keystore.Key{rewritten}))
	must(t, e.Delete(ctx, "key_a"))
	text := fmt.Sprint(must2(json.Marshal(append(history(t, e, "key_a"), history(t, e, "key_b")...))))
	if strings.Count(text, `"hash"`) != 4 {
		t.Errorf("want each of four new secrets mentioned once: %s", text)
	}
	for _, h := range hashes {
		for _, form := range []string{h.String(), base64.StdEncoding.EncodeToString(h[:])} {
			if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
				t.Errorf("the trail has a hash: %s", text)
			}
		}
	}
}

func must2(b []byte, err error) string {
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// The fields of a few keys that are added together are recorded; of many, only that they were added, and by
// whom.
func imports(t *testing.T, e audit.Editor) {
	ctx := keystore.WithActor(t.Context(), "ann")
	few := []*keystore.Key{storetest.NewKey("few_1", "10.0.0.0/8"), storetest.NewKey("few_2")}
	_, err := e.AddAbsent(ctx, few)
	must(t, err)
	want(t, e, "few_1", `ann: add | ip_whitelist >["10.0.0.0/8"] | enabled >true`)

	many := []*keystore.Key{few[0]}
	for i := range 5 * audit.Detailed {
		many = append(many, storetest.NewKey(fmt.Sprintf("many_%04d", i)))
	}
	_, err = e.AddAbsent(keystore.WithActor(t.Context(), "bob"), many)
	must(t, err)
	for _, k := range many[1:] {
		want(t, e, k.ID, "bob: add")
	}
	want(t, e, "few_1", `ann: add | ip_whitelist >["10.0.0.0/8"] | enabled >true`) // it already existed
	must(t, e.Update(ctx, "many_0007", func(k *keystore.Key) error { k.Enabled = false; return nil }))
	want(t, e, "many_0007", "bob: add", "ann: change | enabled true>false")
}

func put(t *testing.T, e audit.Editor) {
	ctx := keystore.WithActor(t.Context(), "ann")
	var keys []*keystore.Key
	for i := range 2 * audit.Detailed {
		keys = append(keys, storetest.NewKey(fmt.Sprintf("key_%04d", i)))
	}
	_, err := e.AddAbsent(ctx, keys)
	must(t, err)
	for i, k := range keys {
		keys[i] = k.Clone()
		keys[i].Enabled = i%2 == 0
	}
	must(t, e.Put(keystore.WithActor(t.Context(), "bob"), append(keys, storetest.NewKey("key_new"))))
	want(t, e, "key_0001", "ann: add", "bob: change | enabled true>false")
	want(t, e, "key_0002", "ann: add")
	want(t, e, "key_0199", "ann: add", "bob: change | enabled true>false")
	want(t, e, "key_new", "bob: add | enabled >true")
}

// Concurrent edits are all recorded, each with the values before it.
func concurrent(t *testing.T, e audit.Editor) {
	must(t, e.Add(t.Context(), storetest.NewKey("key_a")))
	const editors, each = 8, 4
	var wg sync.WaitGroup
	for i := range editors {
		wg.Go(func() {
			ctx := keystore.WithActor(t.Context(), fmt.Sprint("editor ", i))
			for n := range each {
				if err := e.Update(ctx, "key_a", func(k *keystore.Key) error { k.Name = fmt.Sprintf("%d of %d", n, i); return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	all := history(t, e, "key_a")
	if len(all) != 1+editors*each {
		t.Fatalf("%d edits are recorded, want %d", len(all), 1+editors*each)
	}
	last := ""
	for _, edit := range all[1:] {
		if c := edit.Changes; len(c) != 1 || string(c[0].Before) != last {
			t.Fatalf("an edit goes on from something else than %q: %v", last, line(edit))
		}
		last = string(edit.Changes[0].After)
		if !strings.HasSuffix(last, strings.TrimPrefix(edit.Actor, "editor ")+`"`) {
			t.Errorf("%s made the edit of %s", edit.Actor, last)
		}
	}
}

func limit(t *testing.T, e audit.Editor) {
	must(t, e.Add(t.Context(), storetest.NewKey("key_a")))
	for i := range 5 {
		must(t, e.Update(t.Context(), "key_a", func(k *keystore.Key) error { k.Name = fmt.Sprint(i); return nil }))
	}
	for n, last := range map[int]int{0: 0, 1: 1, 3: 3, 100: 6} {
		edits, err := e.History(t.Context(), "key_a", n)
		must(t, err)
		if len(edits) != last || n > 0 && string(edits[0].Changes[0].After) != `"4"` {
			t.Errorf("with limit %d: %v", n, edits)
		}
	}
}
