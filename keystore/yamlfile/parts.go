package yamlfile

import (
	"fmt"
	"iter"

	"gopkg.in/yaml.v3"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// A Part is some of the keys of a key file, in the order in which they stand there.
type Part struct {
	Keys []*keystore.Key
	End  int // how many bytes of the file were read by then
}

// Parts reads the text of a key file part by part, as strictly as [Open] reads a file: a text
// of many keys takes little more memory than it has itself. It ends at the first part in which
// something is wrong, and yields all that is, as a [strictyaml.Errors] with name for the file;
// the parts before that were sound. A small text is one part, as is one in a form that cannot
// be divided.
func Parts(name string, data []byte) iter.Seq2[Part, error] {
	return func(yield func(Part, error) bool) {
		l := newLoader(nil)
		s := source{name, data}
		read := 0 // keys that were yielded
		if frame, parts := split(data); parts != nil && l.fits(s, frame, parts) {
			known := newTaken(name)
			end := len(data)
			for _, p := range parts {
				end -= len(p.text)
			}
			for _, p := range parts {
				r := l.part(name, p)
				if r == nil {
					break // it is not YAML by itself: the whole tells what it is
				}
				clear(l.chunks)
				end += len(p.text)
				known.add(r.d, p.line, r.records)
				if err := r.d.Err(); err != nil {
					yield(Part{}, err)
					return
				}
				read += len(r.records)
				if !yield(Part{keysOf(r.records), end}, nil) {
					return
				}
			}
			if end == len(data) {
				return
			}
		}
		yieldWhole(s, read, yield)
	}
}

// yieldWhole yields what is in a text after so many of its keys.
func yieldWhole(s source, after int, yield func(Part, error) bool) {
	r := newLoader(nil).reader(s.path, s.data)
	if root := r.d.Parse(s.data); root != nil {
		r.root(root, r.items)
	}
	newTaken(s.path).add(r.d, 0, r.records)
	if err := r.d.Err(); err != nil {
		yield(Part{}, err)
		return
	}
	yield(Part{keysOf(r.records)[min(after, len(r.records)):], len(s.data)}, nil)
}

// fits reports whether a file can be read by its parts.
func (l *loader) fits(s source, frame []byte, parts []part) bool {
	r := l.reader(s.path, frame)
	fits := false
	if root := r.d.Parse(frame); root != nil {
		r.root(root, func(list *yaml.Node) { fits = isFrame(list, parts[0]) })
	}
	return fits && len(r.d.Errors) == 0
}

func keysOf(records []record) []*keystore.Key {
	keys := make([]*keystore.Key, len(records))
	for i, r := range records {
		keys[i] = r.key
	}
	return keys
}

// taken is the ids and the hashes that stand in a file so far, with the lines of their ids.
type taken struct {
	file   string
	ids    map[string]int
	hashes map[keystore.Hash]int
}

func newTaken(file string) *taken {
	return &taken{file, make(map[string]int), make(map[keystore.Hash]int)}
}

// add takes the records of a part that begins after some lines, and says which are there already.
func (t *taken) add(d *strictyaml.Decoder, lines int, records []record) {
	wrong := func(at position, format string, args ...any) {
		d.Errors = append(d.Errors, &strictyaml.Error{
			File: t.file, Line: int(at.line) + lines, Column: int(at.column), Message: fmt.Sprintf(format, args...),
		})
	}
	for _, r := range records {
		line := int(r.idAt.line) + lines
		if first, ok := t.ids[r.key.ID]; ok && r.key.ID != "" {
			wrong(r.idAt, "id %q is that of the key on line %d too: give each key an id of its own", r.key.ID, first)
		}
		if first, ok := t.hashes[r.key.Hash]; ok && r.key.Hash != (keystore.Hash{}) {
			wrong(r.hashAt, "this hash is that of the key on line %d too: a secret belongs to one key", first)
		}
		t.ids[r.key.ID], t.hashes[r.key.Hash] = line, line
	}
}
