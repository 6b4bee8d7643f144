package yamlfile

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"

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
		r := partReader{name: name, text: newSplitter(in), seen: newSeen(name)}
		err := r.run(func(p Part) bool { return yield(p, nil) })
		if err == nil {
			return
		}
		if _, ok := errors.AsType[strictyaml.Errors](err); !ok {
			err = unreadable(name, err)
		}
		yield(Part{}, err)
	}
}

// A partReader reads one key file.
type partReader struct {
	name string
	text *splitter
	seen *seen

	// What stands for the parts that were yielded where the rest is read whole. It is what was
	// before them, and of them only those that an alias may refer to; the others are empty lines.
	before []byte
	lines  int // how many empty lines come after before
	keys   int // how many keys are in before
}

// run yields the parts that are sound, and returns what is wrong with the one after them.
func (r *partReader) run(yield func(Part) bool) error {
	head, err := r.text.head()
	if err != nil {
		return err
	}
	r.before = bytes.Clone(head)
	if head == nil || !isFrame(r.before, nil, r.text.indent) {
		return r.whole(nil, yield)
	}
	now, err := r.next()
	for err == nil && len(now.text) > 0 {
		after, err := r.next()
		if err != nil {
			return err
		}
		c := readPart(r.name, now)
		if c == nil || len(after.text) == 0 && !r.text.done() {
			return r.whole(append(now.text, after.text...), yield)
		}
		if err := r.check(c.errors, c.records, now.line); err != nil {
			return err
		}
		if !yield(Part{keysOf(c.records), r.text.read - len(after.text)}) {
			return nil
		}
		r.pass(now, len(c.records))
		now = after
	}
	return err
}

// next returns a copy of the next part.
func (r *partReader) next() (part, error) {
	p, err := r.text.next()
	p.text = bytes.Clone(p.text)
	return p, err
}

// check returns errs and what else is wrong with records that stand after so many lines.
func (r *partReader) check(errs strictyaml.Errors, records []record, lines int) error {
	errs = slices.Concat(errs, r.seen.add(records, lines))
	if len(errs) == 0 {
		return nil
	}
	sortByPlace(errs)
	return errs
}

// pass leaves a part of so many keys behind.
func (r *partReader) pass(p part, keys int) {
	lines := bytes.Count(p.text, []byte("\n"))
	if !mayAnchor(p.text) {
		r.lines += lines
		return
	}
	r.before = append(r.before, bytes.Repeat([]byte("\n"), r.lines)...)
	r.before = append(r.before, p.text...)
	r.lines = 0
	r.keys += keys
}

// whole reads all that is left, from unread on, as one.
func (r *partReader) whole(unread []byte, yield func(Part) bool) error {
	size := r.text.read - len(unread) - len(r.before) - r.lines // and what is read now, that is the file's
	text, err := io.ReadAll(io.MultiReader(
		bytes.NewReader(r.before), bytes.NewReader(bytes.Repeat([]byte("\n"), r.lines)),
		bytes.NewReader(unread), r.text.left()))
	if err != nil {
		return err
	}
	size += len(text)
	c := readWhole(r.name, text)
	records := c.records[min(r.keys, len(c.records)):]
	if err := r.check(c.errors, records, 0); err != nil {
		return err
	}
	yield(Part{keysOf(records), size})
	return nil
}

// done reports whether all was handed out.
func (s *splitter) done() bool { return s.end && s.from == len(s.buf) }

// left returns a reader of all that was not handed out.
func (s *splitter) left() io.Reader {
	buffered := bytes.NewReader(s.buf[s.from:])
	if s.end {
		return buffered
	}
	return io.MultiReader(buffered, s.in)
}

// mayAnchor reports whether there may be an anchor in the text of a part. It begins a value, so
// there is no letter before it, nor a space after it.
func mayAnchor(text []byte) bool {
	for at := 0; ; at++ {
		i := bytes.IndexByte(text[at:], '&')
		if i < 0 {
			return false
		}
		at += i
		if at+1 < len(text) && strings.IndexByte(blanks, text[at+1]) < 0 && (at == 0 || !isAlphanumeric(text[at-1])) {
			return true
		}
	}
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
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
