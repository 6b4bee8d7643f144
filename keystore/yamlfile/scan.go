package yamlfile

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"slices"

	"gopkg.in/yaml.v3"

	"extauthz/strictyaml"
)

// A chunk is what was read of a text: of a part of a file, or of a whole one. It is immutable.
type chunk struct {
	records          []record // places are those within the text
	errors, warnings strictyaml.Errors

	file string // where it stood when it was read
	line int    // how many lines were before it
}

// A chunkID tells texts from each other. A text is not read alike as a part and as a whole.
type chunkID struct {
	sum   [sha256.Size]byte
	whole bool
}

// chunks are those of the files as they are, by their texts: after a change only what differs
// is read again.
type chunks map[chunkID]*chunk

// find returns a chunk of the same text, unless what it has to tell is of another place.
func (c chunks) find(id chunkID, file string, line int) *chunk {
	if k := c[id]; k != nil && (len(k.errors)+len(k.warnings) == 0 || k.file == file && k.line == line) {
		return k
	}
	return nil
}

// A placed chunk is one that stands in a file.
type placed struct {
	*chunk
	id   chunkID
	line int // how many lines of the file stand before it
}

// A scan is what a key file holds.
type scan struct {
	path   string
	chunks []placed
	around [sha256.Size]byte // of what stands around the list
	size   int               // in bytes
}

// A scanner reads key files. The zero value does, as if for the first time.
type scanner struct {
	known chunks // of the time before
	pacer
}

// errUndivided says that a file cannot be told from its parts.
var errUndivided = errors.New("this key file can only be read whole")

// scan reads a file, in parts if that tells what reading the whole would. Its error is about
// reading alone.
func (s scanner) scan(path string, in io.ReadSeeker) (scan, error) {
	file, err := s.inParts(path, in)
	if errors.Is(err, errUndivided) {
		return s.whole(path, in)
	}
	return file, err
}

func (s scanner) inParts(path string, in io.Reader) (scan, error) {
	text := newSplitter(in)
	head, err := text.head()
	if err != nil {
		return scan{}, err
	}
	if head = bytes.Clone(head); head == nil || !isFrame(head, nil, text.indent) {
		return scan{}, errUndivided
	}
	file := scan{path: path}
	for {
		p, err := text.next()
		if err != nil {
			return scan{}, err
		}
		if len(p.text) == 0 {
			break
		}
		id := chunkID{sum: sha256.Sum256(p.text)}
		c := s.known.find(id, path, p.line)
		if c == nil {
			if c = readPart(path, p); c == nil {
				return scan{}, errUndivided
			}
		}
		file.chunks = append(file.chunks, placed{c, id, p.line})
		s.pause()
	}
	file.size = text.read
	rest, err := text.rest()
	if err != nil {
		return scan{}, err
	}
	if rest == nil || !isFrame(head, rest, text.indent) {
		return scan{}, errUndivided
	}
	file.size += len(rest)
	file.around = sha256.Sum256(slices.Concat(head, []byte{0}, rest)) // neither has a zero in it
	return file, nil
}

// whole reads a file as one.
func (s scanner) whole(path string, in io.ReadSeeker) (scan, error) {
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return scan{}, err
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return scan{}, err
	}
	id := chunkID{sha256.Sum256(data), true}
	c := s.known.find(id, path, 0)
	if c == nil {
		c = readWhole(path, data)
	}
	return scan{path: path, chunks: []placed{{c, id, 0}}, size: len(data)}, nil
}

// readPart reads some keys, or returns nil where their text cannot be read by itself.
func readPart(path string, p part) *chunk {
	if hasOddLines(p.text) {
		return nil
	}
	r := newReader(&strictyaml.Decoder{File: path, FirstLine: p.line}, len(p.text))
	items := r.d.Parse(p.text)
	if items == nil || items.Kind != yaml.SequenceNode {
		return nil
	}
	r.items(items)
	return &chunk{slices.Clip(r.records), r.d.Errors, r.d.Warnings, path, p.line}
}

func readWhole(path string, data []byte) *chunk {
	r := newReader(&strictyaml.Decoder{File: path}, len(data))
	if root := r.d.Parse(data); root != nil {
		r.root(root, r.items)
	}
	return &chunk{slices.Clip(r.records), r.d.Errors, r.d.Warnings, path, 0}
}

// root reads what is around the list of keys, and lets keys read that.
func (r *reader) root(n *yaml.Node, keys func(*yaml.Node)) {
	found := false
	ok := r.d.Mapping(n, strictyaml.Fields{"keys": func(n *yaml.Node) {
		found = true
		if n.Tag == "!!null" {
			r.d.Errorf(n, "nothing where the list of keys is expected: write `keys: []` if no key may be used")
			return
		}
		keys(n)
	}})
	if ok && !found {
		r.d.Errorf(n, "no field keys: write `keys:` and a `- id: …` item for each key below it")
	}
}
