package files

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Without notifications files are polled, and that is reported once. [keystore/yamlfile] tests which changes
// are detected.
func TestWatcherFallsBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	must(t, os.WriteFile(path, nil, 0o600))
	var reported []error
	w := &Watcher{
		Path: path, dirs: make(map[string]string), List: func() ([]string, error) { return []string{path}, nil },
		OnPolling: func(err error) { reported = append(reported, err) },
	}
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: limit.Max}))
	w.watchDirs()
	w.watchDirs()
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	defer w.close()
	if len(reported) != 1 || !errors.Is(reported[0], syscall.EMFILE) {
		t.Errorf("got %v", reported)
	}
	if w.watchDirs(); w.notifier == nil || w.polling || len(reported) != 1 {
		t.Errorf("no notifications once they can be had: %v", reported)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
