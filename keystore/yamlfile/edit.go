package yamlfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// An Editor changes the keys in a file or a folder. It reads them afresh for each call. What
// an edit does not touch, comments too, stays byte for byte; the file is replaced as a whole
// and keeps its mode and its owner, and a link to it stays one. What would not be a sound set
// of keys afterwards is never written. Several editors, in other processes too, wait for each
// other by a lock on a hidden file beside the key file. [NewEditor] makes one.
//
// In a folder, new keys go to its file keys.yaml. A file that does not exist is created with the
// first key: in a folder with the mode and owner of the first file there, else for its owner only.
type Editor struct {
	path    string
	written func() error // called after each write, where set
}

var _ keystore.Editor = (*Editor)(nil)

// NewEditor returns an editor of the file or folder at path, which need not exist yet: it is
// read only when a method is called.
func NewEditor(path string) *Editor { return &Editor{path: path} }

// Keys implements [keystore.Editor].
func (e *Editor) Keys(ctx context.Context, after string) iter.Seq2[*keystore.Key, error] {
	return func(yield func(*keystore.Key, error) bool) {
		keys, err := e.keys(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, k := range keys {
			if k.ID <= after {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			if !yield(k, nil) {
				return
			}
		}
	}
}

// Key implements [keystore.Editor].
func (e *Editor) Key(ctx context.Context, id string) (*keystore.Key, error) {
	keys, err := e.keys(ctx)
	if err != nil {
		return nil, err
	}
	i, ok := slices.BinarySearchFunc(keys, id, func(k *keystore.Key, id string) int { return strings.Compare(k.ID, id) })
	if !ok {
		return nil, keystore.ErrNotFound
	}
	return keys[i], nil
}

// keys returns all keys in the order of their ids.
func (e *Editor) keys(ctx context.Context) ([]*keystore.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	files, err := eachFile(e.path, scanner{}.file)
	if err != nil {
		return nil, err
	}
	set, err := newSet(files, &set{}, nil)
	if err != nil {
		return nil, err
	}
	keys := make([]*keystore.Key, 0, set.index.len)
	for _, k := range set.index.all() {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b *keystore.Key) int { return strings.Compare(a.ID, b.ID) })
	return keys, nil
}

// Add implements [keystore.Editor].
func (e *Editor) Add(ctx context.Context, k *keystore.Key) error {
	if err := validate(k); err != nil {
		return err
	}
	return e.edit(ctx, func(b *book) error {
		if b.items[k.ID] != nil {
			return fmt.Errorf("id %s: %w", k.ID, keystore.ErrExists)
		}
		b.put(k)
		return nil
	})
}

// AddAbsent implements [keystore.Editor]. It writes the file once, however many keys there are.
func (e *Editor) AddAbsent(ctx context.Context, keys []*keystore.Key) (existing []*keystore.Key, err error) {
	for _, k := range keys {
		if err := validate(k); err != nil {
			return nil, err
		}
	}
	err = e.edit(ctx, func(b *book) error {
		absent := make([]*keystore.Key, 0, len(keys))
		for _, k := range keys {
			if it := b.items[k.ID]; it != nil {
				existing = append(existing, it.key)
			} else {
				absent = append(absent, k)
			}
		}
		b.put(absent...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return existing, nil
}

// Put implements [keystore.Editor]. It writes each file once, however many keys there are.
func (e *Editor) Put(ctx context.Context, keys []*keystore.Key) error {
	for _, k := range keys {
		if err := validate(k); err != nil {
			return err
		}
	}
	return e.edit(ctx, func(b *book) error {
		b.put(keys...)
		return nil
	})
}

// Update implements [keystore.Editor].
func (e *Editor) Update(ctx context.Context, id string, change func(*keystore.Key) error) error {
	return e.edit(ctx, func(b *book) error {
		it := b.items[id]
		if it == nil {
			return keystore.ErrNotFound
		}
		k := it.key.Clone()
		if err := change(k); err != nil {
			return err
		}
		if k.ID != id {
			return fmt.Errorf("the id %s cannot be changed to %q: add a new key instead", id, k.ID)
		}
		if err := validate(k); err != nil {
			return err
		}
		b.put(k)
		return nil
	})
}

// Delete implements [keystore.Editor]. It removes the key's own lines; comments above them
// stay.
func (e *Editor) Delete(ctx context.Context, id string) error {
	return e.edit(ctx, func(b *book) error {
		if b.items[id] == nil {
			return keystore.ErrNotFound
		}
		b.delete(id)
		return nil
	})
}

// edit reads the files under the lock, lets change say what is to be, and writes that.
func (e *Editor) edit(ctx context.Context, change func(*book) error) error {
	unlock, err := e.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	b, err := openBook(e.path)
	if err != nil {
		return err
	}
	if err := change(b); err != nil {
		return err
	}
	texts, err := b.texts()
	if err != nil || len(texts) == 0 {
		return err
	}
	for _, s := range texts {
		if err := replaceFile(s.path, b.pages[0].path, s.data); err != nil {
			return notWritten(s.path, err)
		}
	}
	if e.written != nil {
		return e.written()
	}
	return nil
}

// lock keeps other editors out until unlock is called.
func (e *Editor) lock(ctx context.Context) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	target, err := target(e.path)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(filepath.Dir(target), "."+filepath.Base(target)+".lock")
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		path = filepath.Join(target, ".keys.lock")
	}
	l := flock.New(path, flock.SetPermissions(0o600))
	if _, err := l.TryLockContext(ctx, 5*time.Millisecond); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: another editor holds the lock %s: %w", e.path, path, err)
		}
		return nil, notWritten(path, err)
	}
	return func() { _ = l.Unlock() }, nil
}

func notWritten(path string, err error) error {
	return fmt.Errorf("%s: cannot be written: %w", path, strictyaml.ExplainWrite(path, err))
}

// target returns the file or folder that path leads to, by links or not, or path itself where
// there is none yet.
func target(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return "", fmt.Errorf("%s is a link that leads nowhere: correct it, or remove it", path)
		}
		return path, nil
	}
	return resolved, err
}
