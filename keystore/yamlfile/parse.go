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

// A chunk is the result of parsing some entries of a list of keys, or a whole file. It is immutable,
// and does not depend on its place in a file: its errors and warnings name no file, and lines are
// counted from the start of the text that was parsed.
type chunk struct {
	records          []record
	errors, warnings strictyaml.Errors
}

// A record is a key with the positions of its id and its hashes.
type record struct {
	key          *keystore.Key
	idAt, hashAt position
	previousAt   position // the zero position: there is no previous secret
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

// A parsedFile is the result of parsing a key file.
type parsedFile struct {
	path   string
	chunks []placedChunk
	data   []byte // its text, if it was read for an edit
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
// pause after each. Its error is about reading in; errors in the text are in the chunks.
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

// A parser parses a key file chunk by chunk, each as a separate file, so that it needs no memory for
// the nodes of all keys at once. If a chunk cannot be parsed by itself (because of an alias to
// another chunk, an open quote or bracket, or text after the list), the parser parses it and all
// the rest of the file as one, so that dividing a file never changes its meaning.
type parser struct {
	split *strictyaml.ListSplitter
	known map[[sha256.Size]byte]*chunk
	head  []byte // the text before the next chunk
	buf   []byte // the text that is parsed: head and a chunk

	// If the rest of a file is parsed as one, the chunks with an anchor come between head and the
	// rest, because an alias in the rest may refer to it. Their keys were yielded before.
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
		return p.rest(nil, 0, yield)
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
			return p.rest(text, line, yield)
		}
		if !yield(c) || last {
			return nil
		}
		p.head = []byte("keys:\n") // the file's own head was parsed with the first chunk
		if strictyaml.MayHaveAnchor(text) {
			p.anchored = append(p.anchored, text...)
			p.lines += p.split.Line - line
			p.keys += len(c.records)
		}
	}
}

// rest parses text, before which the file has so many lines, and everything after it as one chunk.
func (p *parser) rest(text []byte, line int, yield func(placedChunk) bool) error {
	before := bytes.Count(p.head, []byte("\n")) + p.lines
	c := placedChunk{line: line - before}
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

// parse parses the text in buf, leaving out its first keys, and errors and warnings in its first
// lines. It returns ok false if the text may have another meaning as a part of the file.
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

// Parts reads a key file part by part, as strictly as [Open], from the current position of in, which
// may be a pipe, to its end. In memory it holds one part, and a digest of each id and hash. It ends
// after the first part with an error, for which it yields a [strictyaml.Errors] with everything
// that is wrong with that part, under the given name; the parts before it are valid. If a file
// cannot be divided further, its rest is one part.
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
