package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"extauthz/keystore/storetest"
)

// keyFile returns the text of a key file with keys of these ids.
func keyFile(ids ...string) string {
	var b strings.Builder
	b.WriteString("keys:\n")
	for _, id := range ids {
		fmt.Fprintf(&b, "  - {id: %s, hash: %s}\n", id, storetest.SecretOf(id).Hash())
	}
	return b.String()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// pipe returns the reading end of a pipe with a text.
func pipe(t *testing.T, text string) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	go func() {
		_, _ = io.WriteString(w, text)
		_ = w.Close()
	}()
	return r
}

func openFile(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// importInto imports into an empty store and returns the ids that it holds afterwards.
func importInto(ctx context.Context, t *testing.T, from string, stdin io.Reader) ([]string, error) {
	t.Helper()
	file, err := Open(from, stdin)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	store := storetest.NewMemory()
	_, err = Run(ctx, file, Options{Editor: store, BatchSize: 100, Writers: 2})
	return ids(t, store), err
}

func ids(t *testing.T, s *storetest.Memory) []string {
	t.Helper()
	var ids []string
	for k, err := range s.Keys(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, k.ID)
	}
	return ids
}

// A key file may be a file or a pipe, given by name or on standard input.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	file, later, fifo := filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "later.yaml"), filepath.Join(dir, "fifo")
	text := keyFile("key_a", "key_b")
	write(t, file, text)
	write(t, later, "read by someone else\n"+text)
	partly := openFile(t, later)
	if _, err := io.ReadFull(partly, make([]byte, len("read by someone else\n"))); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() { _ = os.WriteFile(fifo, []byte(text), 0o600) }()
	for name, c := range map[string]struct {
		from  string
		stdin io.Reader
	}{
		"a file":                       {file, nil},
		"a pipe with a name":           {fifo, nil},
		"standard input, a file":       {"-", openFile(t, file)},
		"standard input, partly read":  {"-", partly},
		"standard input, a pipe":       {"-", pipe(t, text)},
		"standard input, another kind": {"-", strings.NewReader(text)},
	} {
		if ids, err := importInto(t.Context(), t, c.from, c.stdin); err != nil || !slices.Equal(ids, []string{"key_a", "key_b"}) {
			t.Errorf("%s: %v, error %v", name, ids, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		from  string
		stdin io.Reader
		want  string
	}{
		"a folder":                       {dir, nil, dir + ": it is a folder: name a file in it"},
		"a pipe without a writer":        {fifo, nil, fifo + ": it is a named pipe, and nothing was written to it within 3s: "},
		"a device":                       {"/dev/zero", nil, "/dev/zero: it is a device: name a file"},
		"no file":                        {dir + "/none", nil, "stat " + dir + "/none: no such file or directory"},
		"standard input, a folder":       {"-", openFile(t, dir), "standard input: it is a folder: name a file in it"},
		"standard input, a device":       {"-", openFile(t, "/dev/zero"), "standard input: it is a device: name a file"},
		"standard input, empty":          {"-", pipe(t, ""), "standard input: the file is empty"},
		"standard input, with a mistake": {"-", pipe(t, "keys:\n  - {id: a}\n"), "standard input:2:5: a key without a hash: "},
	} {
		ids, err := importInto(t.Context(), t, c.from, c.stdin)
		if err == nil || len(ids) != 0 || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, error %v", name, ids, err)
		}
	}
}

// A file that is written while it is read is an error.
func TestFileChanged(t *testing.T) {
	text := keyFile("key_a", "key_b")
	for name, c := range map[string]struct {
		change func(path string) error
		sound  bool
	}{
		"left alone":       {func(string) error { return nil }, true},
		"another in place": {func(path string) error { return os.Rename(path+".new", path) }, true},
		"cut":              {func(path string) error { return os.Truncate(path, int64(len(text))/2) }, false},
		"emptied":          {func(path string) error { return os.Truncate(path, 0) }, false},
		"longer":           {func(path string) error { return os.Truncate(path, int64(len(text))+1) }, false},
		"written anew": {func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)))
		}, false},
	} {
		path := filepath.Join(t.TempDir(), "keys.yaml")
		write(t, path, text)
		write(t, path+".new", "keys: []\n")
		in, err := Open(path, nil)
		if err != nil || in.Size != int64(len(text)) {
			t.Fatal(in, err)
		}
		start := make([]byte, 20)
		if _, err := io.ReadFull(in, start); err != nil {
			t.Fatal(err)
		}
		if err := c.change(path); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(in)
		if c.sound && (err != nil || string(start)+string(rest) != text) || !c.sound && err == nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = in.Close()
	}
}
