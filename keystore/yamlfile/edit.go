package yamlfile

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"extauthz/audit"
	"extauthz/audit/trailfile"
	"extauthz/files"
	"extauthz/keystore"
)

// An Editor changes the keys in a file or a folder. Each call reads the files again. An edit leaves
// all text that it does not need to change as it is, byte for byte, with comments. It replaces the
// file as a whole, which keeps its mode and owner; a link to it stays a link. If the keys would not
// be valid afterwards, nothing is written. Editors, also in other processes, wait for each other by
// [files.Lock]. Use [NewEditor] to make one.
//
// In a folder, new keys go to its file keys.yaml. A file that does not exist is created with the
// first key: in a folder with the mode and owner of the first file there, else for its owner only.
//
// An edit needs as much memory as [Open], and in addition the size of the files.
type Editor struct {
	path    string
	written func() error // called after each write; may be nil
}

var _ audit.Editor = (*Editor)(nil)

// NewEditor returns an editor of the file or folder at path, which need not exist yet: only the
// methods read it.
func NewEditor(path string) *Editor { return &Editor{path: path} }

// Keys implements [keystore.Editor].
func (e *Editor) Keys(ctx context.Context, after string) iter.Seq2[*keystore.Key, error] {
	return func(yield func(*keystore.Key, error) bool) {
		keys, err := e.read(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, id := range slices.Sorted(maps.Keys(keys)) {
			if id > after && !yield(keys[id], nil) {
				return
			}
		}
	}
}

// Key implements [keystore.Editor].
func (e *Editor) Key(ctx context.Context, id string) (*keystore.Key, error) {
	keys, err := e.read(ctx)
	if err != nil {
		return nil, err
	}
	if k := keys[id]; k != nil {
		return k, nil
	}
	return nil, keystore.ErrNotFound
}

// read returns all keys by their ids.
func (e *Editor) read(ctx context.Context) (map[string]*keystore.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	parsed, err := readFiles(e.path, parseFirst)
	if err != nil {
		return nil, err
	}
	s, err := newSnapshot(parsed, &snapshot{}, noThrottle)
	if err != nil {
		return nil, err
	}
	return s.byID(), nil
}

// Add implements [keystore.Editor].
func (e *Editor) Add(ctx context.Context, k *keystore.Key) error {
	existing, err := e.AddAbsent(ctx, []*keystore.Key{k})
	if err == nil && len(existing) > 0 {
		return fmt.Errorf("id %s: %w", k.ID, keystore.ErrExists)
	}
	return err
}

// AddAbsent implements [keystore.Editor]. It writes the file once, however many keys there are.
func (e *Editor) AddAbsent(ctx context.Context, keys []*keystore.Key) (existing []*keystore.Key, err error) {
	if err := validate(keys...); err != nil {
		return nil, err
	}
	err = e.edit(ctx, func(c *changes) error {
		for _, k := range keys {
			if is := c.before[k.ID]; is != nil {
				existing = append(existing, is)
			} else {
				c.after[k.ID] = k
				c.added = append(c.added, k)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return existing, nil
}

// Put implements [keystore.Editor]. It writes each file once, however many keys there are.
func (e *Editor) Put(ctx context.Context, keys []*keystore.Key) error {
	if err := validate(keys...); err != nil {
		return err
	}
	return e.edit(ctx, func(c *changes) error {
		for _, k := range keys {
			c.put(k)
		}
		return nil
	})
}

// Update implements [keystore.Editor].
func (e *Editor) Update(ctx context.Context, id string, change func(*keystore.Key) error) error {
	return e.edit(ctx, func(c *changes) error {
		if c.before[id] == nil {
			return keystore.ErrNotFound
		}
		k := c.before[id].Clone()
		if err := change(k); err != nil {
			return err
		}
		if k.ID != id {
			return fmt.Errorf("the id %s cannot be changed to %q: add a new key instead", id, k.ID)
		}
		if err := validate(k); err != nil {
			return err
		}
		c.put(k)
		return nil
	})
}

// Delete implements [keystore.Editor]. It removes the key's own lines; comments above them stay.
func (e *Editor) Delete(ctx context.Context, id string) error {
	return e.edit(ctx, func(c *changes) error {
		if c.before[id] == nil {
			return keystore.ErrNotFound
		}
		c.after[id] = nil
		return nil
	})
}

// edit reads the files under the lock, has plan decide what changes, and writes that.
func (e *Editor) edit(ctx context.Context, plan func(*changes) error) error {
	unlock, err := files.Lock(ctx, e.path)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := readForEdit(e.path)
	if err != nil {
		return err
	}
	if err := plan(c); err != nil {
		return err
	}
	changed, err := c.apply()
	if err != nil || len(changed) == 0 {
		return err
	}
	// First the trail: after a crash in between, it has an edit that was not made, rather than the
	// other way round.
	undo, err := trailfile.Record(ctx, e.path, c.before, c.after)
	if err != nil {
		return err
	}
	for i, f := range changed {
		if err := files.Replace(f.path, c.files[0].path, f.data); err != nil {
			if i == 0 {
				err = errors.Join(err, undo())
			}
			return err
		}
	}
	if e.written != nil {
		return e.written()
	}
	return nil
}

// History implements [audit.Trail]. It has the edits of the last 16 to 32 MiB of the trail, and not
// those that people made by hand.
func (e *Editor) History(ctx context.Context, keyID string, limit int) ([]audit.Edit, error) {
	return trailfile.History(ctx, e.path, keyID, limit)
}
