package yamlfile

import (
	"cmp"
	"io"
	"iter"
	"slices"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// A Part is some of the keys of a key file, in the order in which they stand there.
type Part struct {
	Keys []*keystore.Key
	End  int // how many bytes of the file were read by then
}

// Parts reads a key file part by part, as strictly as [Open] does, and once, from where in
// stands to its end: it may be a pipe. Of a large file it holds little more at a time than a
// part, and a digest of each id and hash. It ends at the first part in which something is
// wrong, and yields all that is, or why in cannot be read, as a [strictyaml.Errors] with name
// for the file; the parts before that were sound. A small file is one part. From where a file
// cannot be divided on, all that is left of it is one, and takes memory as [Open] does.
func Parts(name string, in io.Reader) iter.Seq2[Part, error] {
	return func(yield func(Part, error) bool) {
		d := divider{path: name, text: newSplitter(in)}
		known := newTaken()
		ended := false
		err := d.run(func(p placed) bool {
			errs := slices.Concat(p.errors, known.add(name, p))
			if len(errs) > 0 {
				sortByPlace(errs)
				yield(Part{}, errs)
			}
			ended = len(errs) > 0 || !yield(Part{keysOf(p.records), p.end}, nil)
			return !ended
		})
		if err != nil && !ended {
			yield(Part{}, unreadable(name, err))
		}
	}
}

func keysOf(records []record) []*keystore.Key {
	keys := make([]*keystore.Key, len(records))
	for i, r := range records {
		keys[i] = r.key
	}
	return keys
}

func sortByPlace(errs strictyaml.Errors) {
	slices.SortStableFunc(errs, func(a, b *strictyaml.Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
