package yamlfile

import (
	"crypto/sha256"
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
	skip  int // how many of the keys in it are another chunk's
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
	end  int // how many bytes of the file were read by then
}

// A scan is what a key file holds.
type scan struct {
	path   string
	chunks []placed
	head   [sha256.Size]byte // of what stands before the list
	size   int               // in bytes
}

// A scanner reads key files. The zero value does, as if for the first time.
type scanner struct {
	known chunks // of the time before
	*pacer
}

// scan reads a file. Its error is about reading alone: what is wrong with the text is in the
// chunks.
func (s scanner) scan(path string, in io.Reader) (scan, error) {
	file := scan{path: path}
	d := divider{path: path, text: newSplitter(in), known: s.known}
	err := d.run(func(p placed) bool {
		file.chunks = append(file.chunks, p)
		file.size = p.end
		s.pause()
		return true
	})
	file.head = d.head
	return file, err
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
	if r.aliasBudget <= 0 {
		return nil // it has a share of the budget that the whole has
	}
	return &chunk{slices.Clip(r.records), r.d.Errors, r.d.Warnings, path, p.line}
}

// readWhole reads a file as one, leaving out its first keys.
func readWhole(path string, data []byte, skip int) *chunk {
	r := newReader(&strictyaml.Decoder{File: path, WhenEmpty: "write `keys: []` if no key may be used"}, len(data))
	if root := r.d.Parse(data); root != nil {
		r.root(root, r.items)
	}
	return &chunk{slices.Clip(r.records[min(skip, len(r.records)):]), r.d.Errors, r.d.Warnings, path, 0}
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
