package yamlfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

// A line that a crash left incomplete is skipped by readers, and removed by the next edit.
func TestTornTrail(t *testing.T) {
	s, path := open(t, "keys: []\n", Options{})
	must(t, s.Add(t.Context(), storetest.NewKey("key_a")))
	must(t, s.Update(t.Context(), "key_a", func(k *keystore.Key) error { k.Name = "a"; return nil }))
	whole := content(t, path+".audit")
	for n := strings.IndexByte(whole, '\n') + 1; n < len(whole); n += 7 {
		write(t, path+".audit", whole[:n])
		if edits, err := s.History(t.Context(), "key_a", 10); err != nil || len(edits) != 1 {
			t.Fatalf("%d bytes: %v, %v", n, edits, err)
		}
	}
	write(t, path+".audit", whole[:len(whole)-3])
	must(t, s.Update(t.Context(), "key_a", func(k *keystore.Key) error { k.Name = "b"; return nil }))
	edits, err := s.History(t.Context(), "key_a", 10)
	if err != nil || len(edits) != 2 || edits[0].Changes[0].Text() != "name: a → b" || strings.Count(content(t, path+".audit"), "\n") != 2 {
		t.Errorf("%v, %v\n%s", edits, err, content(t, path+".audit"))
	}
}

// An edit that is not made is not in the trail, and one that cannot be recorded is not made.
func TestTrailAndKeysAgree(t *testing.T) {
	s, path := open(t, "keys: []\n", Options{})
	must(t, s.Add(t.Context(), storetest.NewKey("key_a")))
	before := content(t, path+".audit")
	must(t, os.Remove(path+".audit"))
	must(t, os.Mkdir(path+".audit", 0o700))
	err := s.Add(t.Context(), storetest.NewKey("key_b"))
	if err == nil || !strings.Contains(err.Error(), "cannot be recorded in "+path+".audit, so it was not made") {
		t.Errorf("error %v", err)
	}
	if _, err := s.Key(t.Context(), "key_b"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("the key that was not added: %v", err)
	}
	must(t, os.Remove(path+".audit"))
	write(t, path+".audit", before)
}

// The trail of a folder is in the folder, and that of a link is beside its target.
func TestPlaceOfTrail(t *testing.T) {
	dir, links := t.TempDir(), t.TempDir()
	write(t, filepath.Join(dir, "keys.yaml"), "keys: []\n")
	must(t, os.Symlink(dir, filepath.Join(links, "folder")))
	must(t, os.Symlink(filepath.Join(dir, "keys.yaml"), filepath.Join(links, "keys.yaml")))
	must(t, NewEditor(filepath.Join(links, "folder")).Add(t.Context(), storetest.NewKey("key_a")))
	must(t, NewEditor(filepath.Join(links, "keys.yaml")).Add(t.Context(), storetest.NewKey("key_b")))
	for name, id := range map[string]string{"keys.audit": "key_a", "keys.yaml.audit": "key_b"} {
		if text := content(t, filepath.Join(dir, name)); strings.Count(text, "\n") != 1 || !strings.Contains(text, id) {
			t.Errorf("%s: %s", name, text)
		}
	}
	if s, err := Open(dir, Options{}); err != nil || s.Len() != 2 {
		t.Errorf("beside their trail the keys are %v, %v", s, err)
	}
}
