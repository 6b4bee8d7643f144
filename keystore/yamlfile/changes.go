package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"extauthz/keystore"
)

// changes are the changes of an edit to the files of a store.
type changes struct {
	files    []parsedFile
	target   string // the file for new keys
	snapshot *snapshot
	before   map[string]*keystore.Key // by id
	after    map[string]*keystore.Key // by id, if changed or added; nil if deleted
	added    []*keystore.Key          // in their order
}

// readForEdit reads the files at path, which must be valid, or not exist.
func readForEdit(path string) (*changes, error) {
	target := path
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		target = filepath.Join(path, "keys.yaml")
	}
	var read []parsedFile
	if paths, err := keyFiles(path); len(paths) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		if read, err = readFiles(path, parseForEdit); err != nil {
			return nil, err
		}
	}
	return newChanges(read, target)
}

// parseForEdit parses a key file that may also be without a list of keys.
func parseForEdit(path string, in io.Reader) (parsedFile, error) {
	data, err := io.ReadAll(in)
	if err != nil || withoutKeys.Match(data) {
		return parsedFile{path: path, data: data}, err
	}
	f, err := parseFile(path, bytes.NewReader(data), nil, noThrottle)
	f.data = data
	return f, err
}

// newChanges returns no changes yet. The target need not be one of the files.
func newChanges(read []parsedFile, target string) (*changes, error) {
	if !slices.ContainsFunc(read, func(f parsedFile) bool { return f.path == target }) {
		read = append(read, parsedFile{path: target})
	}
	s, err := newSnapshot(read, &snapshot{}, noThrottle)
	if err != nil {
		return nil, err
	}
	return &changes{files: read, target: target, snapshot: s, before: s.byID(), after: make(map[string]*keystore.Key)}, nil
}

// put adds a key, or changes the key with the same id. Of two calls for one id the last counts.
func (c *changes) put(k *keystore.Key) {
	before, added := c.before[k.ID], c.after[k.ID]
	switch {
	case before != nil && sameKey(before, k):
		delete(c.after, k.ID)
		return
	case before == nil && added != nil:
		c.added[slices.Index(c.added, added)] = k
	case before == nil:
		c.added = append(c.added, k)
	}
	c.after[k.ID] = k
}

// apply returns the files that must be written, with their new text. It parses the parts that have
// changed, to verify that every key is as wanted.
func (c *changes) apply() ([]parsedFile, error) {
	if err := c.checkHashes(); err != nil || len(c.after) == 0 {
		return nil, err
	}
	var changed []parsedFile
	all := slices.Clone(c.files)
	for i, f := range all {
		var added []*keystore.Key
		if f.path == c.target {
			added = c.added
		}
		text, err := rewrite(f, c.after, added)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(text, f.data) {
			continue
		}
		if all[i], err = parseFile(f.path, bytes.NewReader(text), c.snapshot.chunks, noThrottle); err != nil {
			return nil, err
		}
		all[i].data = text
		changed = append(changed, all[i])
	}
	next, err := newSnapshot(all, c.snapshot, noThrottle)
	if err != nil {
		// Not as an error with a place, because that is not in the file as it is.
		return nil, fmt.Errorf("this edit would break the file, so it was not made: edit the file by hand; this would be wrong with it: %s", err.Error())
	}
	if !c.areIn(next) {
		return nil, notEditable(changed[0].path)
	}
	return changed, nil
}

// areIn reports whether a snapshot has every key as wanted, and no other.
func (c *changes) areIn(s *snapshot) bool {
	n := len(c.before) + len(c.added)
	for _, k := range c.after {
		if k == nil {
			n--
		}
	}
	for _, k := range s.all() {
		want, changed := c.after[k.ID]
		if !changed {
			want = c.before[k.ID]
		}
		if want == nil || !sameKey(k, want) {
			return false
		}
	}
	return s.len() == n
}

// checkHashes returns an error if two keys would have the same hash, or the same previous hash.
func (c *changes) checkHashes() error {
	owners := make(map[keystore.Hash]string)
	for id, k := range c.after {
		if k == nil {
			continue
		}
		for _, h := range k.Hashes() {
			other, taken := owners[h]
			if owner := c.snapshot.find(h); owner != nil {
				if _, changes := c.after[owner.ID]; !changes {
					other, taken = owner.ID, true
				}
			}
			if taken {
				return fmt.Errorf("keys %s and %s with one hash: %w", min(id, other), max(id, other), keystore.ErrExists)
			}
			owners[h] = id
		}
	}
	return nil
}

func notEditable(path string) error {
	return fmt.Errorf("%s is written in a way that cannot be edited here without changing other keys: edit it by hand", path)
}
