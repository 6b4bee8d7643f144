package yamlfile

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"
	"slices"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// A chunk is what was parsed of some entries of a list of keys, or of a whole file. It is immutable,
// and does not depend on where it stands: its errors and warnings name no file, and lines are
// counted from the start of the text that was parsed.
type chunk struct {
	records          []record
	errors, warnings strictyaml.Errors
}

// A record is a key and where its id and its hash stand.
type record struct {
	key          *keystore.Key
	idAt, hashAt position
}

// A position is the line and the column of a value in a chunk.
type position struct{ line, column int32 }

// A placedChunk is a chunk in a file.
type placedChunk struct {
	*chunk
	sum  [sha256.Size]byte // of the text that was parsed
	line int               // the file's line that is line 0 of the chunk
	end  int               // the offset of its end in bytes
}

// at returns errors of a chunk with their places in a file.
func (c placedChunk) at(path string, errs strictyaml.Errors) strictyaml.Errors {
	placed := make(strictyaml.Errors, len(errs))
	for i, e := range errs {
		placed[i] = &strictyaml.Error{File: path, Line: e.Line, Column: e.Column, Message: e.Message}
		if e.Line > 0 {
			placed[i].Line += c.line
		}
	}
	return placed
}

// A parsedFile is what was parsed of a key file.
type parsedFile struct {
	path   string
	chunks []placedChunk
	data   []byte // its text, if it is read for an edit
}

// keys returns the keys of a file in their order.
func (f parsedFile) keys() []*keystore.Key {
	var keys []*keystore.Key
	for _, c := range f.chunks {
		for _, r := range c.records {
			keys = append(keys, r.key)
		}
	}
	return keys
}

// parseFile parses a key file. It reuses the chunks in known whose text has not changed, and calls
// pause after each. Its error is one of reading; errors in the text are in the chunks.
func parseFile(path string, in io.Reader, known map[[sha256.Size]byte]*chunk, pause func()) (parsedFile, error) {
	f := parsedFile{path: path}
	p := parser{split: strictyaml.NewListSplitter(in, "keys"), known: known}
	err := p.run(func(c placedChunk) bool {
		f.chunks = append(f.chunks, c)
		pause()
		return true
	})
	return f, err
}

// parseFirst parses a key file without reusing anything.
func parseFirst(path string, in io.Reader) (parsedFile, error) {
	return parseFile(path, in, nil, noThrottle)
}

// A parser parses a key file chunk by chunk, each as if it were a file of its own. From the first
// chunk on that cannot be parsed so (for an alias to another chunk, a quote or a bracket that is
// left open, or text after the list), it parses all the rest as one. So it needs no memory for the
// nodes of all keys at once, and dividing a file never changes what it means.
type parser struct {
	split *strictyaml.ListSplitter
	known map[[sha256.Size]byte]*chunk
	head  []byte // what stands before the text that is parsed
	buf   []byte // the text that is parsed

	// Between head and the rest of a file stand those chunks that were yielded before and have an
	// anchor, which an alias in the rest may refer to.
	anchored []byte
	lines    int
	keys     int
}

// maxHead is where the list of keys must begin at the latest for a file to be divided.
const maxHead = 64 << 10

// run calls yield with each chunk until it returns false.
func (p *parser) run(yield func(placedChunk) bool) error {
	head, ok, err := p.split.Head(maxHead)
	if err != nil {
		return err
	}
	if p.head = bytes.Clone(head); !ok {
		return p.rest(nil, yield)
	}
	for {
		line := p.split.Line
		text, last, err := p.split.Chunk()
		if err != nil {
			return err
		}
		p.buf = append(append(p.buf[:0], p.head...), text...)
		c := placedChunk{sum: sha256.Sum256(p.buf), line: line - bytes.Count(p.head, []byte("\n")), end: p.split.Offset}
		if c.chunk = p.known[c.sum]; c.chunk == nil {
			c.chunk, ok = p.parse(0, 0)
		}
		if !ok || last && !p.split.AtEnd() {
			return p.rest(text, yield)
		}
		if !yield(c) || last {
			return nil
		}
		p.head = []byte("keys:\n") // the first chunk was parsed after what the file has there
		if strictyaml.MayHaveAnchor(text) {
			p.anchored = append(p.anchored, text...)
			p.lines += p.split.Line - line
			p.keys += len(c.records)
		}
	}
}

// rest parses text and all that was not read yet as one chunk.
func (p *parser) rest(text []byte, yield func(placedChunk) bool) error {
	before := bytes.Count(p.head, []byte("\n")) + p.lines
	c := placedChunk{line: p.split.Line - bytes.Count(text, []byte("\n")) - before}
	buf := bytes.NewBuffer(slices.Concat(p.head, p.anchored, text))
	n, err := buf.ReadFrom(p.split.Rest())
	if err != nil {
		return err
	}
	p.buf, c.end = buf.Bytes(), p.split.Offset+int(n)
	c.sum = sha256.Sum256(p.buf)
	c.sum = sha256.Sum256(fmt.Appendf(c.sum[:], "rest after %d keys", p.keys)) // the same text may be a chunk
	if c.chunk = p.known[c.sum]; c.chunk == nil {
		skipLines := 0
		if p.keys > 0 {
			skipLines = before
		}
		c.chunk, _ = p.parse(skipLines, p.keys)
	}
	yield(c)
	return nil
}

// parse parses the text in buf, without its first keys and what is wrong in its first lines. It
// returns ok false if the text may mean something else as part of a larger one.
func (p *parser) parse(skipLines, skipKeys int) (c *chunk, ok bool) {
	r := newKeyReader(len(p.buf))
	root := r.Parse(p.buf)
	if root != nil {
		r.root(root)
		isSkipped := func(e *strictyaml.Error) bool { return 0 < e.Line && e.Line <= skipLines }
		r.Errors, r.Warnings = slices.DeleteFunc(r.Errors, isSkipped), slices.DeleteFunc(r.Warnings, isSkipped)
	} else if e := r.Errors[0]; e.Line > 0 {
		e.Line = max(e.Line, skipLines+1)
	}
	c = &chunk{slices.Clip(r.records[min(skipKeys, len(r.records)):]), r.Errors, r.Warnings}
	return c, root != nil && r.aliasBudget > 0 && !strictyaml.HasUnusualLines(p.buf)
}

// A Part is some of the keys of a key file, in their order.
type Part struct {
	Keys []*keystore.Key
	End  int // the offset of its end in the file, in bytes
}

// Parts reads a key file part by part, as strictly as [Open] does, and once, from where in is to
// its end: it may be a pipe. Of a large file it holds in memory one part, and a digest of each id
// and hash. It ends at the first part in which something is wrong, and yields all that is, or why
// in cannot be read, as a [strictyaml.Errors] with name for the file; the parts before that are
// valid. From where a file cannot be divided on, the rest is one part.
func Parts(name string, in io.Reader) iter.Seq2[Part, error] {
	return func(yield func(Part, error) bool) {
		d := newDuplicates()
		ended := false
		p := parser{split: strictyaml.NewListSplitter(in, "keys")}
		err := p.run(func(c placedChunk) bool {
			if errs := d.add(name, c); len(errs) > 0 {
				ended = true
				yield(Part{}, errs)
			} else {
				ended = !yield(Part{parsedFile{chunks: []placedChunk{c}}.keys(), c.end}, nil)
			}
			return !ended
		})
		if err != nil && !ended {
			yield(Part{}, unreadable(name, err))
		}
	}
}
