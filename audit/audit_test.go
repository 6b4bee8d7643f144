package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"extauthz/keystore"
)

// fullKey returns a key that has every field.
func fullKey(t *testing.T) *keystore.Key {
	t.Helper()
	k := &keystore.Key{
		ID: "key_a", Name: "a", Hash: keystore.Hash{1}, Whitelist: whitelist("192.0.2.7/32"), Enabled: true, ExternalID: "a",
		Expires: time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC), WhitelistMode: keystore.Report,
		Previous:    keystore.PreviousSecret{Hash: keystore.Hash{2}, Until: time.Date(2027, 1, 30, 0, 0, 0, 0, time.UTC)},
		Permissions: []string{"a"}, Roles: []string{"a"}, Ratelimits: []keystore.Ratelimit{{Name: "a", Limit: 1, Duration: time.Second}},
		Meta: json.RawMessage(`{"a":"<&>"}`), Broken: errors.New("broken"),
	}
	v := reflect.ValueOf(*k)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Fatalf("this test leaves out %s", v.Type().Field(i).Name)
		}
	}
	return k
}

func whitelist(prefixes ...string) keystore.Whitelist {
	var list []netip.Prefix
	for _, p := range prefixes {
		list = append(list, netip.MustParsePrefix(p))
	}
	return keystore.NewWhitelist(list)
}

// Every field of a key is compared, and no change contains a hash.
func TestDiffHasEveryField(t *testing.T) {
	full, bare := fullKey(t), &keystore.Key{ID: "key_a", Whitelist: keystore.Anywhere()}
	wantFields := func(changes []FieldChange, n int) {
		t.Helper()
		if len(changes) != n {
			t.Errorf("%d fields differ, want %d: %v", len(changes), n, changes)
		}
		text := fmt.Sprint(changes)
		for _, h := range []keystore.Hash{full.Hash, full.Previous.Hash} {
			if strings.Contains(text, h.String()) {
				t.Errorf("a hash: %s", text)
			}
		}
	}
	all := reflect.TypeFor[keystore.Key]().NumField() - 2 // without ID and Broken
	if len(Fields) != all {
		t.Errorf("%d fields of %d: %v", len(Fields), all, Fields)
	}
	wantFields(Diff(bare, full), all)
	wantFields(Diff(full, bare), all)
	wantFields(Diff(full, full.Clone()), 0)
	wantFields(Diff(nil, full), all-1) // without hash
	wantFields(Diff(full, nil), all-1)
	for i := range reflect.TypeFor[keystore.Key]().NumField() {
		one := full.Clone()
		name := reflect.TypeFor[keystore.Key]().Field(i).Name
		reflect.ValueOf(one).Elem().Field(i).SetZero()
		switch name {
		case "ID", "Broken":
			wantFields(Diff(full, one), 0)
		default:
			wantFields(Diff(full, one), 1)
		}
	}
	other := full.Clone()
	other.Previous.Hash = keystore.Hash{3}
	wantFields(Diff(full, other), 1)
}

// An empty list, which refuses every request, differs from no list.
func TestDiffOfAnEmptyList(t *testing.T) {
	a, b := &keystore.Key{ID: "a"}, &keystore.Key{ID: "a", Whitelist: keystore.Anywhere()}
	if c := Diff(a, b); len(c) != 1 || string(c[0].Before) != "[]" || c[0].After != nil {
		t.Errorf("%v", c)
	}
}

func TestLongValues(t *testing.T) {
	var long []string
	for i := range 5000 {
		long = append(long, fmt.Sprintf("10.%d.%d.0/24", i/256, i%256))
	}
	a, b := &keystore.Key{ID: "a", Whitelist: whitelist(long...)}, &keystore.Key{ID: "a", Whitelist: whitelist(append(long[1:], "192.0.2.0/24")...)}
	if c := Diff(a, b); len(c) != 1 || !c[0].Partial || c[0].Text() != "ip_whitelist: removed 10.0.0.0/24; added 192.0.2.0/24" {
		t.Errorf("%+v", c)
	}
	if c := Diff(nil, a); len(c) != 2 || !c[0].Partial || c[0].After != nil || c[0].Text() != "ip_whitelist: changed" {
		t.Errorf("%+v", c)
	}
}

func TestText(t *testing.T) {
	for _, c := range []struct{ field, before, after, want string }{
		{"ip_whitelist", "", `["192.0.2.7"]`, "ip_whitelist: 192.0.2.7"},
		{"ip_whitelist", `["192.0.2.7","10.0.0.0/8"]`, `["192.0.2.7"]`, "ip_whitelist: removed 10.0.0.0/8"},
		{"ip_whitelist", `["192.0.2.7","10.0.0.0/8"]`, "", "ip_whitelist: 192.0.2.7, 10.0.0.0/8 → none"},
		{"permissions", `["a","b"]`, `["b","a"]`, "permissions: a, b → b, a"},
		{"enabled", "true", "false", "enabled: true → false"},
		{"name", "", `"a"`, "name: a"},
		{"hash", "", "", "hash: changed"},
		{"meta", `{"a":1}`, `{"a":2}`, `meta: {"a":1} → {"a":2}`},
	} {
		change := FieldChange{Field: c.field}
		if c.before != "" {
			change.Before = json.RawMessage(c.before)
		}
		if c.after != "" {
			change.After = json.RawMessage(c.after)
		}
		if got := change.Text(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// An incomplete line, and one that is not a record, belong to no key.
func TestFind(t *testing.T) {
	ctx := keystore.WithActor(t.Context(), "ann")
	line, err := Record{Edit: New(ctx, nil, fullKey(t), time.Now())}.Line()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(line, []byte(`"<&>"`)) {
		t.Errorf("%s", line)
	}
	if e, ok := Find(line, "key_a"); !ok || e.Actor != "ann" || len(e.Changes) != len(Fields)-1 {
		t.Errorf("%v %v", e, ok)
	}
	for n := range line {
		if e, ok := Find(line[:n], "key_a"); ok {
			t.Fatalf("%d bytes: %v", n, e)
		}
	}
	for _, id := range []string{"ann", "key", "", "name"} {
		if e, ok := Find(line, id); ok {
			t.Errorf("%s: %v", id, e)
		}
	}
}

// An editor holds keys in memory, by id.
type editor struct {
	keystore.Editor
	keys map[string]*keystore.Key
}

func (e editor) History(context.Context, string, int) ([]Edit, error) { return nil, nil }

func (e editor) Key(_ context.Context, id string) (*keystore.Key, error) {
	if k := e.keys[id]; k != nil {
		return k.Clone(), nil
	}
	return nil, keystore.ErrNotFound
}

func (e editor) Add(_ context.Context, k *keystore.Key) error { e.keys[k.ID] = k; return nil }

func (e editor) Put(_ context.Context, keys []*keystore.Key) error {
	for _, k := range keys {
		e.keys[k.ID] = k
	}
	return nil
}

func (e editor) AddAbsent(_ context.Context, keys []*keystore.Key) (existing []*keystore.Key, err error) {
	for _, k := range keys {
		if e.keys[k.ID] != nil {
			existing = append(existing, e.keys[k.ID])
		} else {
			e.keys[k.ID] = k
		}
	}
	return existing, nil
}

func (e editor) Update(_ context.Context, id string, change func(*keystore.Key) error) error {
	k := e.keys[id].Clone()
	if err := change(k); err != nil {
		return err
	}
	e.keys[id] = k
	return nil
}

func (e editor) Delete(_ context.Context, id string) error { delete(e.keys, id); return nil }

func TestLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	var failed []error
	log := &Log{Path: path, OnError: func(err error) { failed = append(failed, err) }}
	e := Logged(editor{keys: map[string]*keystore.Key{}}, log)
	ctx := keystore.WithActor(t.Context(), "ann@host")
	key := func(id string) *keystore.Key {
		return &keystore.Key{ID: id, Hash: keystore.Hash{9}, Enabled: true, Whitelist: keystore.Anywhere()}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	disabled := key("key_b")
	disabled.Enabled = false
	var many []*keystore.Key
	for i := range Detailed + 1 {
		many = append(many, key(fmt.Sprintf("many_%d", i)))
	}
	must(e.Add(ctx, key("key_a")))
	must(e.Update(ctx, "key_a", func(k *keystore.Key) error { k.Whitelist = whitelist("10.0.0.0/8"); return nil }))
	must(e.Update(ctx, "key_a", func(k *keystore.Key) error { return nil }))
	if err := e.Update(ctx, "key_a", func(k *keystore.Key) error { k.Name = "x"; return errors.New("no") }); err == nil {
		t.Error("no error")
	}
	_, err := e.AddAbsent(ctx, []*keystore.Key{key("key_a"), key("key_b")})
	must(err)
	must(e.Put(ctx, []*keystore.Key{disabled}))
	_, err = e.AddAbsent(ctx, append(many, key("key_a")))
	must(err)
	must(e.Delete(ctx, "key_a"))
	text, err := os.ReadFile(path)
	must(err)
	var got []string
	for line := range strings.Lines(string(text)) {
		var r Record
		must(json.Unmarshal([]byte(line), &r))
		if r.Actor != "ann@host" || time.Since(r.Time) > time.Hour {
			t.Errorf("%s", line)
		}
		s := fmt.Sprint(r.Action, " ", r.KeyID)
		if len(r.KeyIDs) > 0 {
			s += fmt.Sprint(len(r.KeyIDs), " ", r.KeyIDs[0])
		}
		for _, c := range r.Changes {
			s += ", " + c.Text()
		}
		got = append(got, s)
	}
	want := []string{
		"add key_a, enabled: true", "change key_a, ip_whitelist: 10.0.0.0/8", "add key_b, enabled: true", "change key_b, enabled: true → false",
		"add 100 many_0", "add 1 many_100", "delete key_a, ip_whitelist: 10.0.0.0/8 → none, enabled: true → none",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("logged\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || len(failed) > 0 {
		t.Error(info.Mode(), err, failed)
	}
	must(os.Rename(path, path+".1"))
	must(e.Add(ctx, key("key_c")))
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	log.Path = filepath.Join(path, "no")
	must(e.Add(ctx, key("key_d"))) // the edit is made anyway
	if len(failed) != 1 || !strings.Contains(failed[0].Error(), "was made, but could not be written to the audit log") {
		t.Error(failed)
	}
}
