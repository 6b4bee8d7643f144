package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/yamlfile"
)

// importInto imports into a fresh key file, and returns the ids that are in it then, the exit
// code, and what was said on standard error.
func importInto(ctx context.Context, t *testing.T, from string, stdin io.Reader) (ids []string, code int, said string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "into.yaml")
	write(t, path, "keys: []\n")
	var stdout, stderr bytes.Buffer
	code = run(ctx, []string{"key", "import", "--from", from, "--keys", path}, stdin, &stdout, &stderr)
	s, err := yamlfile.Open(path, yamlfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for k, err := range s.Keys(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, k.ID)
	}
	return ids, code, stderr.String()
}

// pipe returns the end of a pipe from which a text can be read.
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

// A key file may come as a file or a pipe, by its name or on standard input.
func TestImportFrom(t *testing.T) {
	dir := t.TempDir()
	file, later, fifo := filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "later.yaml"), filepath.Join(dir, "fifo")
	text := keyFile(secretOne, secretTwo)
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
		if ids, code, said := importInto(t.Context(), t, c.from, c.stdin); code != 0 || len(ids) != 2 {
			t.Errorf("%s: exit code %d, %v: %s", name, code, ids, said)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		from  string
		stdin io.Reader
		want  string
	}{
		"a folder":                       {dir, nil, dir + ": it is a folder: name one of the files in it\n"},
		"a device":                       {"/dev/zero", nil, "/dev/zero: it is a device: name a file\n"},
		"no file":                        {dir + "/none", nil, "stat " + dir + "/none: no such file or directory\n"},
		"standard input, a folder":       {"-", openFile(t, dir), "standard input: it is a folder: name one of the files in it\n"},
		"standard input, a device":       {"-", openFile(t, "/dev/zero"), "standard input: it is a device: name a file\n"},
		"standard input, empty":          {"-", pipe(t, ""), "standard input: the file is empty\n"},
		"standard input, with a mistake": {"-", pipe(t, "keys:\n  - {id: a}\n"), "standard input:2:5: a key without a hash: "},
	} {
		ids, code, said := importInto(t.Context(), t, c.from, c.stdin)
		if code != 1 || len(ids) != 0 || !strings.HasPrefix(strings.TrimPrefix(said, "extauthz: "), c.want) {
			t.Errorf("%s: exit code %d, %v: %s", name, code, ids, said)
		}
	}
}

// A file that others write to while it is read is not taken for what it was or will be.
func TestImportChanged(t *testing.T) {
	text := keyFile(secretOne, secretTwo)
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
		in, err := openKeyText(path, nil)
		if err != nil || in.size != int64(len(text)) {
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

// A slowEditor counts what is put.
type slowEditor struct {
	keystore.Editor
	put atomic.Int64
}

func (e *slowEditor) Put(_ context.Context, keys []*keystore.Key) error {
	e.put.Add(int64(len(keys)))
	return nil
}

// An import can be interrupted while it waits for more of a file, and says how far it came.
func TestImportInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	in, out := io.Pipe()
	defer out.Close()
	go func() {
		_, _ = io.WriteString(out, "keys:\n")
		for i := range importBatch + 5000 {
			_, _ = fmt.Fprintf(out, "  - {id: key_%d, hash: %s}\n", i, keystore.Secret(fmt.Sprint(i)).Hash())
		}
	}()
	e := &slowEditor{}
	i := &importer{editor: e, writers: 2, bar: newProgress(io.Discard, -1)}
	done := make(chan error)
	go func() {
		done <- i.run(ctx, ahead(ctx, batches(yamlfile.Parts("k", in), importBatch, "")))
	}()
	eventually(t, "a batch is put before the file is at its end", func() bool { return e.put.Load() >= importBatch })
	cancel(errors.New("enough"))
	if err := <-done; err == nil || err.Error() != "enough" || i.keys < importBatch || i.last != fmt.Sprintf("key_%d", i.keys-1) {
		t.Errorf("%d keys up to %s: %v", i.keys, i.last, err)
	}

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if ids, code, said := importInto(ctx, t, "-", r); code == 0 || len(ids) != 0 || said == "" {
		t.Errorf("exit code %d, %v: %s", code, ids, said)
	}
}
