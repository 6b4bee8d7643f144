package yamlfile

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// A source is the text of one key file.
type source struct {
	path string
	data []byte
}

// A set is all the keys of a store at one time. It is immutable.
type set struct {
	byHash   map[keystore.Hash]*keystore.Key
	warnings strictyaml.Errors
	chunks   chunks
}

// files returns the paths of the key files at path, in order: path itself, or those in the
// folder that it is.
func files(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	var paths []string
	for _, e := range entries {
		file := filepath.Join(path, e.Name())
		if !isKeyFile(e.Name()) {
			continue
		}
		// What a link leads to counts, and one that leads nowhere is an error in time.
		if info, err := os.Stat(file); err == nil && info.IsDir() {
			continue
		}
		paths = append(paths, file)
	}
	if len(paths) == 0 {
		return nil, strictyaml.Errors{{File: path, Message: "no *.yaml or *.yml file in this folder: put one there, with the line `keys: []` if no key may be used"}}
	}
	return paths, nil
}

func isKeyFile(name string) bool {
	ext := filepath.Ext(name)
	return (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(name, ".")
}

// read returns the text of every key file at path, or all that is wrong with reading them.
func read(path string) ([]source, error) {
	paths, err := files(path)
	if err != nil {
		return nil, err
	}
	var sources []source
	var wrong strictyaml.Errors
	for _, p := range paths {
		data, err := readFile(p)
		if err != nil {
			wrong = append(wrong, unreadable(p, err)...)
			continue
		}
		sources = append(sources, source{p, data})
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return sources, nil
}

// readFile reads a file but for a device, which may have no end.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeDevice != 0 {
		return nil, errors.New("it is a device: name a file")
	}
	return os.ReadFile(path)
}

func unreadable(path string, err error) strictyaml.Errors {
	if errors.Is(err, fs.ErrNotExist) {
		return strictyaml.Errors{{File: path, Message: "there is no such file: correct the path, or make a key with `extauthz key new --append " + path + "`"}}
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return strictyaml.Errors{{File: path, Message: "cannot be read: " + err.Error()}}
}

// A loader makes a set of sources.
type loader struct {
	known    chunks // of the load before
	chunks   chunks // of this one
	errors   strictyaml.Errors
	warnings strictyaml.Errors
	byHash   map[keystore.Hash]*keystore.Key
	ids      map[string]place
	hashes   map[keystore.Hash]place
}

// A place is where a field stands.
type place struct {
	file string
	position
}

func newLoader(known chunks) *loader {
	return &loader{
		known: known, chunks: make(chunks), byHash: make(map[keystore.Hash]*keystore.Key),
		ids: make(map[string]place), hashes: make(map[keystore.Hash]place),
	}
}

// load reads all the sources. Its error is the [strictyaml.Errors] of all of them.
func load(sources []source, known chunks) (*set, error) {
	l := newLoader(known)
	for _, s := range sources {
		before := len(l.errors)
		l.file(s)
		slices.SortStableFunc(l.errors[before:], func(a, b *strictyaml.Error) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
	}
	if len(l.errors) > 0 {
		return nil, l.errors
	}
	return &set{l.byHash, l.warnings, l.chunks}, nil
}

// file adds the keys of one file, in parts if it can.
func (l *loader) file(s source) {
	frame, parts := split(s.data)
	if parts == nil || !l.inParts(s, frame, parts) {
		l.whole(s)
	}
}

func (l *loader) whole(s source) {
	r := l.reader(s.path, s.data)
	if root := r.d.Parse(s.data); root != nil {
		r.root(root, r.items)
	}
	l.take(r)
	l.add(s.path, 0, r.records)
}

func (l *loader) reader(path string, text []byte) *reader {
	return newReader(&strictyaml.Decoder{File: path}, len(text))
}

// take keeps what a reader has found wrong, and what it warns of.
func (l *loader) take(r *reader) {
	l.errors = append(l.errors, r.d.Errors...)
	l.warnings = append(l.warnings, r.d.Warnings...)
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

// inParts reads the file's parts one by one, and reports whether that tells what reading the
// whole would.
func (l *loader) inParts(s source, frame []byte, parts []part) bool {
	r := l.reader(s.path, frame)
	fits := false
	if root := r.d.Parse(frame); root != nil {
		r.root(root, func(list *yaml.Node) { fits = isFrame(list, parts[0]) })
	}
	if !fits || len(r.d.Errors) > 0 {
		return false
	}
	readers := make([]*reader, len(parts))
	for i, p := range parts {
		if readers[i] = l.part(s.path, p); readers[i] == nil {
			return false
		}
	}
	for i, r := range readers {
		l.take(r)
		l.add(s.path, parts[i].line, r.records)
	}
	return true
}

// part reads some keys, or returns nil where their text cannot be read by itself.
func (l *loader) part(path string, p part) *reader {
	sum := sha256.Sum256(p.text)
	if records, ok := l.known[sum]; ok {
		l.chunks[sum] = records
		return &reader{d: &strictyaml.Decoder{}, records: records}
	}
	r := l.reader(path, p.text)
	r.d.FirstLine = p.line
	items := r.d.Parse(p.text)
	if items == nil || items.Kind != yaml.SequenceNode {
		return nil
	}
	r.items(items)
	if len(r.d.Errors)+len(r.d.Warnings) == 0 {
		l.chunks[sum] = slices.Clip(r.records)
	}
	return &reader{d: r.d, records: r.records}
}

// add takes the records of a part of a file that begins after some lines, unless their ids or
// hashes are taken.
func (l *loader) add(path string, lines int, records []record) {
	for _, rec := range records {
		k := rec.key
		idAt, hashAt := rec.idAt.in(path, lines), rec.hashAt.in(path, lines)
		if first, ok := l.ids[k.ID]; k.ID == "" {
			// Told already, as is a hash that is missing.
		} else if ok {
			l.errorf(idAt, "id %q is that of the key at %s too: give each key an id of its own", k.ID, first)
		} else {
			l.ids[k.ID] = idAt
		}
		if k.Hash == (keystore.Hash{}) {
			continue
		}
		if first, ok := l.hashes[k.Hash]; ok {
			l.errorf(hashAt, "this hash is that of the key %q at %s too: a secret belongs to one key", l.byHash[k.Hash].ID, first)
			continue
		}
		l.hashes[k.Hash] = hashAt
		l.byHash[k.Hash] = k
	}
}

func (p position) in(file string, lines int) place {
	return place{file, position{p.line + int32(lines), p.column}} //nolint:gosec // a file has fewer lines
}

func (p place) String() string { return fmt.Sprintf("%s:%d:%d", p.file, p.line, p.column) }

func (l *loader) errorf(p place, format string, args ...any) {
	l.errors = append(l.errors, &strictyaml.Error{
		File: p.file, Line: int(p.line), Column: int(p.column), Message: fmt.Sprintf(format, args...),
	})
}
