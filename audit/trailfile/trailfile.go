// Package trailfile keeps the trail of edits in a file beside the keys: a line of JSON for each edit,
// oldest first, in two files of a bounded size. A line that a crash left incomplete is ignored by
// readers, and removed by the next writer.
package trailfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"extauthz/audit"
	"extauthz/files"
	"extauthz/keystore"
)

// maxSize is the size from which the file is renamed, and replaces the previous one.
const maxSize = 16 << 20

// Record records an edit of the key file or folder at path, as [audit.Lines] describes it, and returns
// a function that removes the record again. What it wrote is on disk. Only one caller at a time may edit
// the keys.
func Record(ctx context.Context, path string, before, after map[string]*keystore.Key) (undo func() error, err error) {
	lines, err := audit.Lines(ctx, before, after)
	if err != nil {
		return nil, err
	}
	t, err := trailOf(path)
	if err != nil {
		return nil, err
	}
	if undo, err = t.append(lines, maxSize); err != nil {
		return nil, fmt.Errorf("the edit cannot be recorded in %s, so it was not made: %w", t.path, err)
	}
	return undo, nil
}

// A trail is the trail of a key file or a folder.
type trail struct {
	path, old string // old: the file before
	keys      string // whose owner a new file gets
}

// trailOf returns the trail of the key file or folder at path: keys.yaml.audit beside keys.yaml, or
// keys.audit in the folder.
func trailOf(path string) (trail, error) {
	target, err := files.Resolve(path)
	if err != nil {
		return trail{}, err
	}
	name := target + ".audit"
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		name = filepath.Join(target, "keys.audit")
	}
	return trail{path: name, old: name + ".old", keys: target}, nil
}

// append writes lines, and returns a function that removes them again.
func (t trail) append(lines []byte, maxSize int64) (undo func() error, err error) {
	if info, err := os.Stat(t.path); err == nil && info.Size() > maxSize {
		if err := os.Rename(t.path, t.old); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(t.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, files.ExplainWrite(t.path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	end, err := t.end(f)
	if err != nil {
		return nil, err
	}
	if _, err = f.WriteAt(lines, end); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, f.Truncate(end))
	}
	return func() error { return os.Truncate(t.path, end) }, nil
}

// end returns the offset for the next line, after the last complete one. It removes an incomplete line that a
// crash left.
func (t trail) end(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if info.Size() == 0 {
		t.own(f)
		return 0, nil
	}
	data := make([]byte, min(info.Size(), maxLine))
	if _, err := f.ReadAt(data, info.Size()-int64(len(data))); err != nil {
		return 0, err
	}
	torn := len(data) - (bytes.LastIndexByte(data, '\n') + 1)
	end := info.Size() - int64(torn)
	if torn > 0 {
		err = f.Truncate(end)
	}
	return end, err
}

// maxLine is more than the longest line.
const maxLine = 1 << 20

// own gives a new file that root created the owner of the keys, so that everyone who may edit the keys can
// record edits.
func (t trail) own(f *os.File) {
	like, err := os.Stat(t.keys)
	if err != nil {
		return
	}
	if s, ok := like.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		_ = f.Chown(int(s.Uid), int(s.Gid))
	}
}

// History returns the last edits of a key in the file or folder at path, as [audit.Trail] does.
func History(ctx context.Context, path, keyID string, limit int) ([]audit.Edit, error) {
	t, err := trailOf(path)
	if err != nil {
		return nil, err
	}
	newest, info, err := read(t.path)
	if err != nil {
		return nil, err
	}
	older, oldInfo, err := read(t.old)
	if err != nil {
		return nil, err
	}
	if info != nil && oldInfo != nil && os.SameFile(info, oldInfo) {
		older = nil // it was renamed just now
	}
	limit = min(limit, audit.MaxHistory)
	var edits []audit.Edit
	for _, data := range [][]byte{newest, older} {
		lines := bytes.Split(data, []byte{'\n'})
		for _, line := range slices.Backward(lines) {
			if len(edits) >= limit {
				return edits, nil
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if edit, ok := audit.Find(line, keyID); ok {
				edits = append(edits, edit)
			}
		}
	}
	return edits, nil
}

// read returns the contents of a file of the trail; nothing if there is none.
func read(path string) ([]byte, fs.FileInfo, error) {
	f, err := files.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: cannot be read: %w", path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(f)
	return data, info, err
}
