package yamlfile

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"extauthz/audit"
	"extauthz/audit/audittest"
	"extauthz/keystore"
	"extauthz/keystore/cache"
	"extauthz/keystore/storetest"
)

// open returns a store over a new file that holds this text.
func open(t *testing.T, text string, opts Options) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.yaml")
	write(t, path, text)
	s, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s, path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestStore(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) storetest.Backend{
		"File": func(t *testing.T) storetest.Backend {
			s, _ := open(t, "keys: []\n", Options{})
			return s
		},
		"FileBehindACache": openBehindACache,
		"Folder": func(t *testing.T) storetest.Backend {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "other.yml"), "# no keys here\nkeys: []\n")
			s, err := Open(dir, Options{})
			must(t, err)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, open)
		})
	}
}

func TestTrail(t *testing.T) {
	audittest.Run(t, func(t *testing.T) audit.Editor {
		s, _ := open(t, "keys: []\n", Options{})
		return s
	})
}

func TestCount(t *testing.T) {
	s, _ := open(t, "keys: []\n", Options{})
	storetest.RunCount(t, s)
}

func openBehindACache(t *testing.T) storetest.Backend {
	s, _ := open(t, "keys: []\n", Options{})
	c, err := cache.New(s, cache.DefaultConfig())
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { _ = s.Watch(ctx, c) }) // its error is ctx's
	t.Cleanup(func() { cancel(); watching.Wait(); c.Close() })
	return struct {
		keystore.Store
		keystore.Editor
	}{c, s}
}

func sortedHashes(s *snapshot) []keystore.Hash {
	var all []keystore.Hash
	for h := range s.all() {
		all = append(all, h)
	}
	return slices.SortedFunc(slices.Values(all), func(a, b keystore.Hash) int { return bytes.Compare(a[:], b[:]) })
}
