package yamlfile

import (
	"fmt"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// taken is the ids and the hashes that were read so far, and where they stand.
type taken struct {
	files  []string
	ids    map[string]place
	hashes map[keystore.Hash]place
}

// A place is where a field stands in one of the files.
type place struct {
	file int32
	position
}

func newTaken() *taken {
	return &taken{ids: make(map[string]place), hashes: make(map[keystore.Hash]place)}
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
		if first, ok := t.ids[r.key.ID]; ok {
			wrong(idAt, "id %q is that of the key at %s too: give each key an id of its own", r.key.ID, t.name(first))
		} else if r.key.ID != "" {
			t.ids[r.key.ID] = idAt
		}
		if first, ok := t.hashes[r.key.Hash]; ok {
			wrong(hashAt, "this hash is that of the key at %s too: a secret belongs to one key", t.name(first))
		} else if r.key.Hash != (keystore.Hash{}) {
			t.hashes[r.key.Hash] = hashAt
		}
	}
	return errs
}

func (t *taken) place(p position, lines int) place {
	p.line += int32(lines)                   //nolint:gosec // a file has fewer lines
	return place{int32(len(t.files) - 1), p} //nolint:gosec // there are fewer files
}

func (t *taken) name(p place) string {
	return fmt.Sprintf("%s:%d:%d", t.files[p.file], p.line, p.column)
}
