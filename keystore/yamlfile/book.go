package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"gopkg.in/yaml.v3"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// A book is the files of a store while they are edited: what stands where, and what is to be.
type book struct {
	pages   []*page
	items   map[string]*item         // by id, as they stand
	changes map[string]*keystore.Key // by id, nil for a key that is to go
	added   []*keystore.Key          // the new ones, in order
	fresh   *page                    // where these go
}

// A page is one file.
type page struct {
	source
	root     *yaml.Node
	listName *yaml.Node // the word keys
	list     *yaml.Node // of the keys
	items    []*item
	isNew    bool
}

// An item is a key as it stands in a file.
type item struct {
	page *page
	node *yaml.Node
	key  *keystore.Key
}

// openBook reads the files at path, which must be sound, or not exist.
func openBook(path string) (*book, error) {
	sources, err := sourcesToEdit(path)
	if err != nil {
		return nil, err
	}
	fresh := path
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		fresh = filepath.Join(path, "keys.yaml")
	}
	return newBook(sources, fresh)
}

// newBook returns the book of these files, where new keys go to the one at the path fresh.
func newBook(sources []source, fresh string) (*book, error) {
	b := &book{items: make(map[string]*item), changes: make(map[string]*keystore.Key)}
	set, err := load(sources)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]*keystore.Key, set.index.len)
	for _, k := range set.index.all() {
		byID[k.ID] = k
	}
	for _, s := range sources {
		b.open(s, byID)
	}
	i := slices.IndexFunc(b.pages, func(p *page) bool { return p.path == fresh })
	if i < 0 {
		i = len(b.pages)
		b.open(source{fresh, []byte("keys: []\n")}, nil)
		b.pages[i].isNew = true
	}
	b.fresh = b.pages[i]
	return b, nil
}

// sourcesToEdit reads the files at path, none where there are none yet. A file without keys,
// not even an empty list, gets one.
func sourcesToEdit(path string) ([]source, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil && info.IsDir() {
		if names, err := files(path); err != nil && names == nil {
			if entries, err := os.ReadDir(path); err == nil && !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return isKeyFile(e.Name()) }) {
				return nil, nil
			}
		}
	}
	sources, err := eachFile(path, readFile)
	for i := range sources {
		sources[i].data = withList(sources[i].data)
	}
	return sources, err
}

// withList returns data with an empty list of keys where it has none: where it is empty, holds
// comments alone, or only says "keys:".
func withList(data []byte) []byte {
	only := -1 // where the line that says "keys:" ends
	at := 0
	for line := range bytes.Lines(data) {
		text := bytes.Trim(line, blanks)
		switch {
		case isBlank(text):
		case only < 0 && bytes.HasPrefix(line, []byte("keys:")) && isBlank(bytes.Trim(line[len("keys:"):], blanks)):
			only = at + len("keys:")
		default:
			return data
		}
		at += len(line)
	}
	if only >= 0 {
		return slices.Concat(data[:only], []byte(" []"), data[only:])
	}
	return slices.Concat(endLine(data), []byte("keys: []\n"))
}

// open adds a file whose keys are sound.
func (b *book) open(s source, byID map[string]*keystore.Key) {
	p := &page{source: s}
	d := &strictyaml.Decoder{}
	p.root = d.Parse(s.data)
	for i := 0; i+1 < len(p.root.Content); i += 2 {
		if p.root.Content[i].Value == "keys" {
			p.listName, p.list = p.root.Content[i], p.root.Content[i+1]
		}
	}
	for _, n := range p.list.Content {
		it := &item{page: p, node: n, key: byID[field(n, "id")]}
		p.items = append(p.items, it)
		b.items[it.key.ID] = it
	}
	b.pages = append(b.pages, p)
}

// field returns the text of a field of a mapping, or "".
func field(n *yaml.Node, name string) string {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return strictyaml.Resolve(n.Content[i+1]).Value
		}
	}
	return ""
}

// put plans to write keys, which are valid. The last of two with one id counts.
func (b *book) put(keys ...*keystore.Key) {
	at := make(map[string]int)
	for _, k := range keys {
		it := b.items[k.ID]
		if it != nil {
			if b.changes[k.ID] = k; sameKey(it.key, k) {
				delete(b.changes, k.ID)
			}
		} else if i, ok := at[k.ID]; ok {
			b.added[i] = k
		} else {
			at[k.ID] = len(b.added)
			b.added = append(b.added, k)
		}
	}
}

func (b *book) delete(id string) { b.changes[id] = nil }

// want returns the keys that are to be, by id.
func (b *book) want() (map[string]*keystore.Key, error) {
	keys := make(map[string]*keystore.Key, len(b.items)+len(b.added))
	for id, it := range b.items {
		keys[id] = it.key
	}
	for id, k := range b.changes {
		if k == nil {
			delete(keys, id)
			continue
		}
		keys[id] = k
	}
	for _, k := range b.added {
		keys[k.ID] = k
	}
	hashes := make(map[keystore.Hash]string, len(keys))
	for id, k := range keys {
		if other, ok := hashes[k.Hash]; ok {
			return nil, fmt.Errorf("keys %s and %s with one hash: %w", min(id, other), max(id, other), keystore.ErrExists)
		}
		hashes[k.Hash] = id
	}
	return keys, nil
}

// texts returns the files that must be written. It makes sure that they hold what they are to
// hold, and that every other key is as it was.
func (b *book) texts() ([]source, error) {
	if len(b.changes)+len(b.added) == 0 {
		return nil, nil
	}
	want, err := b.want()
	if err != nil {
		return nil, err
	}
	var all, changed []source
	for _, p := range b.pages {
		text, err := b.text(p)
		if err != nil {
			return nil, err
		}
		s := source{p.path, text}
		if !bytes.Equal(text, p.data) {
			changed = append(changed, s)
		} else if p.isNew {
			continue
		}
		all = append(all, s)
	}
	after, err := load(all)
	if err != nil {
		// Not as an error with a place: its line is not one of the file as it is.
		return nil, fmt.Errorf("this edit would break the file, so it was not made: edit the file by hand; this would be wrong with it: %s", err.Error())
	}
	if after.index.len != len(want) {
		return nil, b.cannot(changed)
	}
	for _, k := range after.index.all() {
		if w := want[k.ID]; w == nil || !sameKey(k, w) {
			return nil, b.cannot(changed)
		}
	}
	return changed, nil
}

func (b *book) cannot(changed []source) error {
	return fmt.Errorf("%s is written in a way that cannot be edited here without changing other keys: edit it by hand", changed[0].path)
}

// sameKey reports whether a file says the same of both keys.
func sameKey(a, b *keystore.Key) bool {
	if !a.Whitelist.Equal(b.Whitelist) {
		return false
	}
	for _, name := range fieldNames {
		if name != "ip_whitelist" && formatValue(a, name) != formatValue(b, name) {
			return false
		}
	}
	return true
}
