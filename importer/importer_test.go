package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/keystore/yamlfile"
	"extauthz/polltest"
)

// run imports keys into a store that holds others.
func run(t *testing.T, stored, file []*keystore.Key, overwrite bool) (*storetest.Memory, Result, []Difference) {
	t.Helper()
	var text strings.Builder
	text.WriteString("keys:\n")
	for _, k := range file {
		b, err := yamlfile.MarshalKey(k)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(b)
	}
	store := storetest.NewMemory(stored...)
	var different []Difference
	result, err := Run(t.Context(), &File{io.NopCloser(strings.NewReader(text.String())), "keys", -1}, Options{
		Editor: store, BatchSize: 2, Writers: 2, Overwrite: overwrite,
		OnDifferent: func(d Difference) { different = append(different, d) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return store, result, different
}

// A key that is in the store is not changed: an old file does not undo a revocation.
func TestImportLeavesAlone(t *testing.T) {
	same, other, fresh := storetest.NewKey("key_same", "10.0.0.0/8"), storetest.NewKey("key_other"), storetest.NewKey("key_fresh")
	disabled := storetest.NewKey("key_disabled")
	disabled.Enabled = false
	file := []*keystore.Key{fresh, same, storetest.NewKey("key_disabled")}
	for _, overwrite := range []bool{false, true} {
		store, result, different := run(t, []*keystore.Key{same, disabled, other}, file, overwrite)
		want := Result{Added: 1, Same: 1, Different: 1, Last: "key_disabled", Passed: true}
		if result != want || len(different) != 1 || different[0].File.ID != "key_disabled" {
			t.Errorf("overwrite %t: %+v, want %+v; different: %v", overwrite, result, want, different)
		}
		k, err := store.Key(t.Context(), "key_disabled")
		if err != nil || k.Enabled != overwrite {
			t.Errorf("overwrite %t: the disabled key is enabled: %t, error %v", overwrite, k.Enabled, err)
		}
		if got := ids(t, store); !slices.Equal(got, []string{"key_disabled", "key_fresh", "key_other", "key_same"}) {
			t.Errorf("overwrite %t: the store holds %v", overwrite, got)
		}
	}
}

var now = time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)

// Every field of a key is compared, and each that restores access is reported.
func TestDifference(t *testing.T) {
	type change = func(k *keystore.Key)
	for name, c := range map[string]struct {
		stored, file change
		fields       string // the fields that differ
		restored     string // the access that the stored key refused
	}{
		"nothing":   {func(*keystore.Key) {}, func(*keystore.Key) {}, "", ""},
		"disabled":  {func(k *keystore.Key) { k.Enabled = false }, func(*keystore.Key) {}, "enabled", "it was disabled"},
		"disabling": {func(*keystore.Key) {}, func(k *keystore.Key) { k.Enabled = false }, "enabled", ""},
		"expired": {
			func(k *keystore.Key) { k.Expires = now.Add(-time.Hour) }, func(*keystore.Key) {},
			"expires", "it had expired at 2027-01-30T23:00:00Z",
		},
		"expired still": {
			func(k *keystore.Key) { k.Expires = now.Add(-time.Hour) }, func(k *keystore.Key) { k.Expires = now.Add(-time.Minute) },
			"expires", "",
		},
		"disabled and expired": {
			func(k *keystore.Key) { k.Enabled, k.Expires = false, now.Add(-time.Hour) }, func(*keystore.Key) {},
			"enabled expires", "it was disabled; it had expired at 2027-01-30T23:00:00Z",
		},
		"less than a microsecond": {
			func(k *keystore.Key) { k.Expires = now.Add(1000) }, func(k *keystore.Key) { k.Expires = now.Add(1999) }, "", "",
		},
		"rotated":          {func(k *keystore.Key) { k.Hash[0]++ }, func(*keystore.Key) {}, "hash", "it had another secret"},
		"narrowed":         {func(*keystore.Key) {}, whitelist("192.0.2.7"), "ip_whitelist", ""},
		"narrowed, of one": {whitelist("192.0.2.0/24", "::/0"), whitelist("192.0.2.7", "2001:db8::/32"), "ip_whitelist", ""},
		"widened":          {whitelist("192.0.2.7"), whitelist("192.0.2.0/24"), "ip_whitelist", "its ip_whitelist allowed fewer addresses"},
		"moved":            {whitelist("192.0.2.7"), whitelist("192.0.2.8"), "ip_whitelist", "its ip_whitelist allowed fewer addresses"},
		"opened":           {whitelist("192.0.2.7"), func(*keystore.Key) {}, "ip_whitelist", "its ip_whitelist allowed fewer addresses"},
		"broken": {
			func(k *keystore.Key) { k.Broken, k.Whitelist = errors.New("broken"), keystore.Whitelist{} }, func(*keystore.Key) {},
			"ip_whitelist", "its record could not be read",
		},
		"reporting": {
			whitelist("192.0.2.7"), reports("192.0.2.7"), "ip_whitelist_mode", "its ip_whitelist was enforced",
		},
		"reporting, anywhere": {reports("192.0.2.7"), whitelist("0.0.0.0/0"), "ip_whitelist ip_whitelist_mode", ""},
		"before a rotation": {
			func(k *keystore.Key) { k.Hash, k.Previous = keystore.Hash{9}, previous(k.Hash, time.Hour) }, func(*keystore.Key) {},
			"hash previous", "it had another secret",
		},
		"a previous secret": {
			func(*keystore.Key) {}, func(k *keystore.Key) { k.Previous = previous(keystore.Hash{9}, time.Hour) },
			"previous", "its previous secret no longer worked",
		},
		"a previous secret, over": {
			func(*keystore.Key) {}, func(k *keystore.Key) { k.Previous = previous(keystore.Hash{9}, -time.Hour) }, "previous", "",
		},
		"name":           {func(k *keystore.Key) { k.Name = "a" }, func(*keystore.Key) {}, "name", ""},
		"external id":    {func(k *keystore.Key) { k.ExternalID = "a" }, func(*keystore.Key) {}, "external_id", ""},
		"permissions":    {func(k *keystore.Key) { k.Permissions = []string{"a"} }, func(*keystore.Key) {}, "permissions", ""},
		"no permissions": {func(k *keystore.Key) { k.Permissions = []string{} }, func(*keystore.Key) {}, "", ""},
		"roles":          {func(k *keystore.Key) { k.Roles = []string{"a"} }, func(*keystore.Key) {}, "roles", ""},
		"ratelimits":     {func(k *keystore.Key) { k.Ratelimits = []keystore.Ratelimit{{Name: "a"}} }, func(*keystore.Key) {}, "ratelimits", ""},
		"meta":           {meta(`{"a":1}`), func(*keystore.Key) {}, "meta", ""},
		"meta, reformatted": {
			meta(`{"a": [1, 100, "x", null], "b": {"c": true, "d": 0.5}}`), meta(`{"b":{"d":5e-1,"c":true},"a":[1,1e2,"x",null]}`), "", "",
		},
		"meta, a large number": {meta(`12345678901234567890`), meta(`12345678901234567891`), "meta", ""},
		"meta, a huge number":  {meta(`1e999999999999`), meta(`2e999999999999`), "meta", ""},
		"meta, another type":   {meta(`"1"`), meta(`1`), "meta", ""},
	} {
		d := Difference{storetest.NewKey("key_a"), storetest.NewKey("key_a")}
		c.stored(d.Stored)
		c.file(d.File)
		if got := strings.Join(d.Fields(), " "); got != c.fields || same(d.Stored, d.File) != (c.fields == "") {
			t.Errorf("%s: the fields %q differ, want %q", name, got, c.fields)
		}
		if got := strings.Join(d.Restored(now), "; "); got != c.restored {
			t.Errorf("%s: restored: %q, want %q", name, got, c.restored)
		}
	}
}

// A new field of a key is compared too.
func TestDifferenceOfEveryField(t *testing.T) {
	stored := &keystore.Key{
		ID: "key_a", Name: "a", Hash: keystore.Hash{1}, Whitelist: storetest.Whitelist("::1"), Enabled: true, Expires: now, ExternalID: "a",
		WhitelistMode: keystore.Report, Previous: keystore.PreviousSecret{Hash: keystore.Hash{2}, Until: now},
		Permissions: []string{"a"}, Roles: []string{"a"}, Ratelimits: []keystore.Ratelimit{{}}, Meta: json.RawMessage("1"),
		Broken: errors.New("broken"),
	}
	v := reflect.ValueOf(*stored)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("this test leaves out %s", v.Type().Field(i).Name)
		}
	}
	fields := Difference{stored, &keystore.Key{ID: "key_a", Whitelist: keystore.Anywhere()}}.Fields()
	if len(fields) != v.NumField()-2 { // ID and Broken are not compared
		t.Errorf("a key has %d fields, and only %v are compared", v.NumField(), fields)
	}
}

func whitelist(entries ...string) func(*keystore.Key) {
	return func(k *keystore.Key) { k.Whitelist = storetest.Whitelist(entries...) }
}

func reports(entries ...string) func(*keystore.Key) {
	return func(k *keystore.Key) { k.Whitelist, k.WhitelistMode = storetest.Whitelist(entries...), keystore.Report }
}

func previous(h keystore.Hash, left time.Duration) keystore.PreviousSecret {
	return keystore.PreviousSecret{Hash: h, Until: now.Add(left)}
}

func meta(text string) func(*keystore.Key) {
	return func(k *keystore.Key) { k.Meta = json.RawMessage(text) }
}

// A countingEditor counts the keys that are added.
type countingEditor struct {
	keystore.Editor
	added atomic.Int64
}

func (e *countingEditor) AddAbsent(_ context.Context, keys []*keystore.Key) ([]*keystore.Key, error) {
	e.added.Add(int64(len(keys)))
	return nil, nil
}

// An import can be interrupted while it waits for more of a file, and returns its progress.
func TestImportInterrupted(t *testing.T) {
	const batchSize = 1000
	ctx, cancel := context.WithCancelCause(t.Context())
	in, out := io.Pipe()
	defer out.Close()
	go func() {
		_, _ = io.WriteString(out, "keys:\n")
		for i := range 50 * batchSize {
			_, _ = fmt.Fprintf(out, "  - {id: key_%d, hash: %s}\n", i, keystore.Secret(fmt.Sprint(i)).Hash())
		}
	}()
	e := &countingEditor{}
	var result Result
	done := make(chan error)
	go func() {
		var err error
		result, err = Run(ctx, &File{in, "keys", -1}, Options{Editor: e, BatchSize: batchSize, Writers: 2})
		done <- err
	}()
	polltest.Until(t, "a batch is written before the end of the file", func() bool { return e.added.Load() >= batchSize })
	cancel(errors.New("enough"))
	if err := <-done; err == nil || err.Error() != "enough" || result.Added < batchSize || result.Last != fmt.Sprintf("key_%d", result.Added-1) {
		t.Errorf("%+v: %v", result, err)
	}

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if ids, err := importInto(ctx, t, "-", r); !errors.Is(err, context.Canceled) || len(ids) != 0 {
		t.Errorf("%v, error %v", ids, err)
	}
}
