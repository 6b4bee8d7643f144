package trailfile

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"extauthz/keystore"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The trail consists of two files of limited size.
func TestTrailIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	tr, err := trailOf(path)
	must(t, err)
	for i := range 100 {
		_, err := tr.append(fmt.Appendf(nil, `{"actor":"a","keyId":"key_a","action":"add","time":"2027-01-31T00:00:%02d.%03dZ"}`+"\n", i%60, i), 1000)
		must(t, err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	total := 0
	for _, e := range entries {
		info, err := e.Info()
		must(t, err)
		if total += int(info.Size()); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	if len(entries) != 2 || total > 2300 {
		t.Errorf("%d files of %d bytes", len(entries), total)
	}
	edits, err := History(t.Context(), path, "key_a", 100)
	must(t, err)
	if len(edits) < 10 || edits[0].Time.Nanosecond() != 99e6 || edits[1].Time.Nanosecond() != 98e6 {
		t.Errorf("%d edits, the newest %v", len(edits), edits[:2])
	}
}

// The record of an edit that was not made can be removed.
func TestUndo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	key := func(id string) map[string]*keystore.Key { return map[string]*keystore.Key{id: {ID: id}} }
	_, err := Record(t.Context(), path, nil, key("key_a"))
	must(t, err)
	before, err := os.ReadFile(path + ".audit")
	must(t, err)
	undo, err := Record(t.Context(), path, nil, key("key_b"))
	must(t, err)
	if edits, err := History(t.Context(), path, "key_b", 10); err != nil || len(edits) != 1 {
		t.Errorf("%v, %v", edits, err)
	}
	must(t, undo())
	if after, err := os.ReadFile(path + ".audit"); err != nil || string(after) != string(before) {
		t.Errorf("%v: the trail is %s, want %s", err, after, before)
	}
}
