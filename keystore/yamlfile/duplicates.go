package yamlfile

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// duplicates finds ids and hashes that appear more than once. It holds only a digest of each, so that
// a million keys need little memory. The chance that two different ones of a million have the same
// digest is less than 1 in 10^16.
type duplicates struct {
	files       []string
	ids, hashes map[digest]place
	owners      map[place]string // the ids of the keys whose hashes are there; nil if they are not needed
}

type digest [12]byte

// A place is that of an id or a hash in the files.
type place struct {
	file int32
	position
}

func newDuplicates() *duplicates {
	return &duplicates{ids: make(map[digest]place), hashes: make(map[digest]place)}
}

// add adds the records of a chunk of a file. It returns everything that is wrong with the chunk, in
// the order of the file: its own errors, and ids and hashes that were added before.
func (d *duplicates) add(path string, c placedChunk) strictyaml.Errors {
	if n := len(d.files); n == 0 || d.files[n-1] != path {
		d.files = append(d.files, path)
	}
	errs := c.at(path, c.errors)
	wrong := func(at place, format string, args ...any) {
		errs = append(errs, &strictyaml.Error{File: path, Line: int(at.line), Column: int(at.column), Message: fmt.Sprintf(format, args...)})
	}
	for _, r := range c.records {
		idAt := d.place(c, r.idAt)
		if first, ok := addIfAbsent(d.ids, []byte(r.key.ID), idAt); !ok && r.key.ID != "" {
			wrong(idAt, "id %q is also that of the key at %s: give each key its own id", r.key.ID, d.name(first))
		}
		for h, at := range r.hashes {
			hashAt := d.place(c, at)
			if first, ok := addIfAbsent(d.hashes, h[:], hashAt); !ok && h != (keystore.Hash{}) {
				owner := ""
				if id, ok := d.owners[first]; ok {
					owner = fmt.Sprintf("%q ", id)
				}
				wrong(hashAt, "this hash is also that of the key %sat %s: a secret belongs to one key", owner, d.name(first))
			} else if d.owners != nil {
				d.owners[hashAt] = r.key.ID
			}
		}
	}
	slices.SortStableFunc(errs, func(a, b *strictyaml.Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return errs
}

// addIfAbsent adds the place of a value, or returns its first place and false.
func addIfAbsent(places map[digest]place, value []byte, at place) (place, bool) {
	sum := sha256.Sum256(value)
	key := digest(sum[:len(digest{})])
	if first, ok := places[key]; ok {
		return first, false
	}
	places[key] = at
	return at, true
}

// place returns the place of a position in a chunk of the last file.
func (d *duplicates) place(c placedChunk, p position) place {
	p.line += int32(c.line)                  //nolint:gosec // a file has fewer lines
	return place{int32(len(d.files) - 1), p} //nolint:gosec // there are fewer files
}

func (d *duplicates) name(p place) string {
	return fmt.Sprintf("%s:%d:%d", d.files[p.file], p.line, p.column)
}
