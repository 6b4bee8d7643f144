package yamlfile

import (
	"crypto/sha256"
	"fmt"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// taken is the ids and the hashes that were read so far, and where they stand. Of each it holds
// a digest alone, so that a million keys take little memory. That two of a million have the
// same one without being the same has a chance of less than 1 in 10^16.
type taken struct {
	files       []string
	ids, hashes map[digest96]place
	owners      map[place]string // the ids of the keys whose hashes stand there; nil: not kept
}

type digest96 [12]byte

// A place is where a field stands in one of the files.
type place struct {
	file int32
	position
}

func newTaken() *taken {
	return &taken{ids: make(map[digest96]place), hashes: make(map[digest96]place)}
}

// add takes the records of a chunk of a file, and returns what is wrong with those whose id or
// hash is taken. Those that have none were told of already.
func (t *taken) add(file string, c placed) strictyaml.Errors {
	if n := len(t.files); n == 0 || t.files[n-1] != file {
		t.files = append(t.files, file)
	}
	var errs strictyaml.Errors
	wrong := func(at place, format string, args ...any) {
		errs = append(errs, &strictyaml.Error{File: file, Line: int(at.line), Column: int(at.column), Message: fmt.Sprintf(format, args...)})
	}
	for _, r := range c.records {
		idAt, hashAt := t.place(r.idAt, c.line), t.place(r.hashAt, c.line)
		if first, ok := note(t.ids, []byte(r.key.ID), idAt); ok && r.key.ID != "" {
			wrong(idAt, "id %q is that of the key at %s too: give each key an id of its own", r.key.ID, t.name(first))
		}
		if first, ok := note(t.hashes, r.key.Hash[:], hashAt); ok && r.key.Hash != (keystore.Hash{}) {
			wrong(hashAt, "this hash is that of the key %sat %s too: a secret belongs to one key", t.owner(first), t.name(first))
		} else if t.owners != nil {
			t.owners[hashAt] = r.key.ID
		}
	}
	return errs
}

// note returns the place of a text that was noted before, or else notes it.
func note(places map[digest96]place, text []byte, at place) (first place, ok bool) {
	sum := sha256.Sum256(text)
	d := digest96(sum[:12])
	if first, ok = places[d]; !ok {
		places[d] = at
	}
	return first, ok
}

func (t *taken) place(p position, lines int) place {
	p.line += int32(lines)                   //nolint:gosec // a file has fewer lines
	return place{int32(len(t.files) - 1), p} //nolint:gosec // there are fewer files
}

func (t *taken) name(p place) string {
	return fmt.Sprintf("%s:%d:%d", t.files[p.file], p.line, p.column)
}

// owner returns the id of the key whose hash stands there, where that is kept.
func (t *taken) owner(p place) string {
	if id, ok := t.owners[p]; ok {
		return fmt.Sprintf("%q ", id)
	}
	return ""
}
