package yamlfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"extauthz/audit"
	"extauthz/files"
)

var (
	_ audit.Editor = (*Editor)(nil)
	_ audit.Editor = (*Store)(nil)
)

// maxTrail is how large the file of the trail becomes before it is renamed, and takes the place of
// the one before.
const maxTrail = 16 << 20

// A trail is the file with the edits of a key file or a folder, a line of JSON for each, oldest first.
type trail struct {
	path, old string // old: the one before
	like      string // whose owner a new file gets
}

// trailOf returns the trail of the file or folder at path: keys.yaml.audit beside keys.yaml, or
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
	return trail{path: name, old: name + ".old", like: target}, nil
}

// append writes lines, and returns a function that takes them back. The caller holds the lock.
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

// end returns where the next line goes: behind the last whole one. What a crash left behind it is
// cut off.
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

// own gives a new file the owner of the keys, if root makes it: whoever may edit the keys can then
// record it.
func (t trail) own(f *os.File) {
	like, err := os.Stat(t.like)
	if err != nil {
		return
	}
	if s, ok := like.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		_ = f.Chown(int(s.Uid), int(s.Gid))
	}
}

// History implements [audit.Trail]. It has the edits of the last 16 to 32 MiB of the trail, and not
// those that people made by hand.
func (e *Editor) History(ctx context.Context, keyID string, limit int) ([]audit.Edit, error) {
	t, err := trailOf(e.path)
	if err != nil {
		return nil, err
	}
	newest, info, err := readTrail(t.path)
	if err != nil {
		return nil, err
	}
	older, oldInfo, err := readTrail(t.old)
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

// readTrail returns the contents of a file of the trail; nothing if there is none.
func readTrail(path string) ([]byte, fs.FileInfo, error) {
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

// edits returns the lines of the trail for the changes.
func (c *changes) edits(ctx context.Context) ([]byte, error) {
	now := time.Now()
	var records []audit.Record
	var added []string
	for _, id := range slices.Sorted(maps.Keys(c.after)) {
		before, after := c.before[id], c.after[id]
		if before == nil && len(c.added) > audit.Detailed {
			added = append(added, id)
			continue
		}
		if edit := audit.New(ctx, before, after, now); edit.Action != audit.Change || len(edit.Changes) > 0 {
			records = append(records, audit.Record{Edit: edit})
		}
	}
	if len(added) > 0 {
		records = append(records, audit.Bulk(audit.New(ctx, nil, c.after[added[0]], now), added)...)
	}
	var lines []byte
	for _, r := range records {
		line, err := r.Line()
		if err != nil {
			return nil, fmt.Errorf("the audit record of %s: %w", r.KeyID, err)
		}
		lines = append(append(lines, line...), '\n')
	}
	return lines, nil
}
