package boltfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"extauthz/usage"
	"extauthz/usage/boltfile"
	"extauthz/usage/usagetest"
)

func TestStore(t *testing.T) {
	usagetest.Run(t, func() usagetest.Open {
		dirs := make(map[string]string)
		return func(t *testing.T, name string, limits usage.Limits) usage.Store {
			id := t.Name() + "\x00" + name
			if dirs[id] == "" {
				dirs[id] = t.TempDir()
			}
			s := boltfile.Open(filepath.Join(dirs[id], "usage.db"), limits)
			t.Cleanup(func() { _ = s.Close() })
			return s
		}
	}())
}

func TestFileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "usage.db")
	s := boltfile.Open(path, usage.Limits{AddressesPerKey: 1, Retention: time.Hour})
	if err := s.Add(t.Context(), &usage.Batch{Summaries: []usage.Summary{{KeyID: "key_a", LastUsed: time.Now()}}}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600: addresses are personal data", info.Mode().Perm())
	}
}

func TestErrorsNameTheFile(t *testing.T) {
	dir := t.TempDir()
	damaged := filepath.Join(dir, "damaged.db")
	if err := os.WriteFile(damaged, []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{damaged, filepath.Join(dir, "no folder", "usage.db")} {
		s := boltfile.Open(path, usage.Limits{AddressesPerKey: 1, Retention: time.Hour})
		err := s.Add(t.Context(), &usage.Batch{Summaries: []usage.Summary{{KeyID: "key_a"}}})
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("Add: %v, want an error that names %s", err, path)
		}
	}
}
