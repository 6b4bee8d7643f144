package yamlfile

import (
	"crypto/sha256"
	"fmt"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// seen is the ids and the hashes of one file so far, and the lines on which they stand: what
// [taken] knows, in less than half the memory. Of each it holds a digest alone. That two of a
// million have the same one without being the same has a chance of less than 1 in 10^16.
type seen struct {
	file        string
	ids, hashes map[digest96]uint32
}

type digest96 [12]byte

func newSeen(file string) *seen {
	return &seen{file, make(map[digest96]uint32), make(map[digest96]uint32)}
}

// add takes records that stand after so many lines, and returns what is wrong with those whose
// id or hash was there before. Those that have none were told of already.
func (s *seen) add(records []record, lines int) strictyaml.Errors {
	var errs strictyaml.Errors
	wrong := func(at position, format string, args ...any) {
		errs = append(errs, &strictyaml.Error{
			File: s.file, Line: lines + int(at.line), Column: int(at.column), Message: fmt.Sprintf(format, args...),
		})
	}
	for _, r := range records {
		if first, ok := note(s.ids, []byte(r.key.ID), lines+int(r.idAt.line)); ok && r.key.ID != "" {
			wrong(r.idAt, "id %q is that of the key at %s:%d too: give each key an id of its own", r.key.ID, s.file, first)
		}
		if first, ok := note(s.hashes, r.key.Hash[:], lines+int(r.hashAt.line)); ok && r.key.Hash != (keystore.Hash{}) {
			wrong(r.hashAt, "this hash is that of the key at %s:%d too: a secret belongs to one key", s.file, first)
		}
	}
	return errs
}

// note returns the line of a text that was noted before, or else notes it.
func note(lines map[digest96]uint32, text []byte, line int) (first uint32, ok bool) {
	sum := sha256.Sum256(text)
	d := digest96(sum[:12])
	if first, ok = lines[d]; !ok {
		lines[d] = uint32(line) //nolint:gosec // a file has fewer lines
	}
	return first, ok
}
