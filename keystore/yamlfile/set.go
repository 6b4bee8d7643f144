package yamlfile

import (
	"hash/maphash"
	"iter"
	"maps"
	"slices"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// A set is all the keys of a store at one time. It is immutable. The zero value has none.
type set struct {
	index    index
	chunks   chunks
	warnings strictyaml.Errors
}

// newSet returns the keys in the files. Its error is the [strictyaml.Errors] of all that is
// wrong with them. It takes over from the set before it what has not changed: that a key is
// another one in a file of 100,000 costs little more than to read the file.
func newSet(files []scan, before *set, p *pacer) (*set, error) {
	next := &set{chunks: make(chunks)}
	total, added := 0, 0
	var fresh []*chunk
	sound := true
	for _, f := range files {
		for _, c := range f.chunks {
			sound = sound && len(c.errors) == 0 && (next.chunks[c.id] == nil || len(c.records) == 0) // else its keys are there twice
			next.chunks[c.id] = c.chunk
			next.warnings = append(next.warnings, c.warnings...)
			total += len(c.records)
			if before.chunks[c.id] != c.chunk {
				fresh = append(fresh, c.chunk)
				added += len(c.records)
			}
			p.pause()
		}
	}
	if !sound {
		return nil, mistakes(files)
	}
	e := indexEdit{index: &next.index, pacer: p}
	if added > total/2 {
		fresh = slices.Collect(maps.Values(next.chunks))
	} else {
		next.index = before.index
		for id, c := range before.chunks {
			if next.chunks[id] != c {
				e.remove(c)
			}
			e.pause()
		}
	}
	for _, c := range fresh {
		if !e.add(c) {
			return nil, mistakes(files)
		}
	}
	return next, nil
}

// shards is how many maps an index is made of: a change copies those that it is in.
const shards = 256

// An index finds keys by their hashes, and knows their ids.
type index struct {
	byHash [shards]map[keystore.Hash]*keystore.Key
	ids    [shards]map[string]struct{}
	len    int
}

func (x *index) find(h keystore.Hash) *keystore.Key { return x.byHash[h[0]][h] }

// all yields the keys in no order.
func (x *index) all() iter.Seq2[keystore.Hash, *keystore.Key] {
	return func(yield func(keystore.Hash, *keystore.Key) bool) {
		for _, shard := range x.byHash {
			for h, k := range shard {
				if !yield(h, k) {
					return
				}
			}
		}
	}
}

// An indexEdit makes changes to an index whose maps may be another one's too.
type indexEdit struct {
	*index
	hashes, idents [shards]bool // which maps are its own by now
	*pacer
}

// own returns one of the maps, for changes.
func own[K comparable, V any](e *indexEdit, of *[shards]map[K]V, done *[shards]bool, i uint8) map[K]V {
	if !done[i] {
		done[i] = true
		if of[i] = maps.Clone(of[i]); of[i] == nil {
			of[i] = make(map[K]V)
		}
		e.pause()
	}
	return of[i]
}

func (e *indexEdit) hashesAt(h keystore.Hash) map[keystore.Hash]*keystore.Key {
	return own(e, &e.byHash, &e.hashes, h[0])
}

func (e *indexEdit) idsAt(id string) map[string]struct{} {
	return own(e, &e.ids, &e.idents, uint8(maphash.String(seed, id))) //nolint:gosec // its last bits
}

func (e *indexEdit) remove(c *chunk) {
	for _, r := range c.records {
		delete(e.hashesAt(r.key.Hash), r.key.Hash)
		delete(e.idsAt(r.key.ID), r.key.ID)
	}
	e.len -= len(c.records)
	e.pause()
}

// add reports whether no id and no hash was there already.
func (e *indexEdit) add(c *chunk) bool {
	for _, r := range c.records {
		hashes, ids := e.hashesAt(r.key.Hash), e.idsAt(r.key.ID)
		_, taken := ids[r.key.ID]
		if taken || hashes[r.key.Hash] != nil {
			return false
		}
		hashes[r.key.Hash], ids[r.key.ID] = r.key, struct{}{}
	}
	e.len += len(c.records)
	e.pause()
	return true
}

// mistakes returns all that is wrong with the files, in the order of the files and of the
// places in them.
func mistakes(files []scan) strictyaml.Errors {
	var all strictyaml.Errors
	known := newTaken()
	known.owners = make(map[place]string)
	for _, f := range files {
		var errs strictyaml.Errors
		for _, c := range f.chunks {
			errs = append(append(errs, c.errors...), known.add(f.path, c)...)
		}
		sortByPlace(errs)
		all = append(all, errs...)
	}
	return all
}
