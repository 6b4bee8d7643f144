package yamlfile

import (
	"crypto/sha256"
	"hash/maphash"
	"iter"
	"maps"
	"slices"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// A snapshot is all the keys of a store at one time. It is immutable. The zero value has none.
type snapshot struct {
	byHash   shards[keystore.Hash, *keystore.Key] // by the previous hash, too
	ids      shards[string, struct{}]
	chunks   map[[sha256.Size]byte]*chunk
	warnings strictyaml.Errors
}

// newSnapshot returns the keys in the files. Its error is a [strictyaml.Errors] with the errors of all
// files. The new snapshot shares what has not changed with the one before, so that a change of one
// key in 100,000 needs little more time than reading the file. It calls pause regularly.
func newSnapshot(files []parsedFile, before *snapshot, pause func()) (*snapshot, error) {
	next := &snapshot{chunks: make(map[[sha256.Size]byte]*chunk, len(before.chunks))}
	var added []*chunk
	total, changed := 0, 0
	for _, f := range files {
		for _, c := range f.chunks {
			if len(c.errors) > 0 || next.chunks[c.sum] != nil && len(c.records) > 0 { // the same keys twice
				return nil, allErrors(files)
			}
			next.chunks[c.sum] = c.chunk
			next.warnings = append(next.warnings, c.at(f.path, c.warnings)...)
			total += len(c.records)
			if before.chunks[c.sum] != c.chunk {
				added = append(added, c.chunk)
				changed += len(c.records)
			}
			pause()
		}
	}
	if changed > total/2 {
		added = slices.Collect(maps.Values(next.chunks))
	} else {
		next.byHash, next.ids = before.byHash.share(), before.ids.share()
		for sum, c := range before.chunks {
			if next.chunks[sum] != c {
				next.remove(c, pause)
			}
		}
	}
	for _, c := range added {
		if !next.add(c, pause) {
			return nil, allErrors(files)
		}
	}
	return next, nil
}

func (s *snapshot) remove(c *chunk, pause func()) {
	for _, r := range c.records {
		pause()
		for h := range r.hashes {
			delete(s.byHash.own(shardOfHash(h)), h)
		}
		delete(s.ids.own(shardOfID(r.key.ID)), r.key.ID)
	}
}

// add adds the records of a chunk. It returns false if there is a key with the same id or hash.
func (s *snapshot) add(c *chunk, pause func()) bool {
	for _, r := range c.records {
		pause()
		for h := range r.hashes {
			if !s.byHash.add(shardOfHash(h), h, r.key) {
				return false
			}
		}
		if !s.ids.add(shardOfID(r.key.ID), r.key.ID, struct{}{}) {
			return false
		}
	}
	return true
}

func (s *snapshot) find(h keystore.Hash) *keystore.Key { return s.byHash.maps[shardOfHash(h)][h] }

// len returns the number of keys.
func (s *snapshot) len() (n int) {
	for _, m := range s.ids.maps {
		n += len(m)
	}
	return n
}

// all yields the keys by their hashes, in no order: a key with a previous secret twice.
func (s *snapshot) all() iter.Seq2[keystore.Hash, *keystore.Key] {
	return func(yield func(keystore.Hash, *keystore.Key) bool) {
		for _, m := range s.byHash.maps {
			for h, k := range m {
				if !yield(h, k) {
					return
				}
			}
		}
	}
}

// byID returns the keys by their ids.
func (s *snapshot) byID() map[string]*keystore.Key {
	keys := make(map[string]*keystore.Key, s.len())
	for _, k := range s.all() {
		keys[k.ID] = k
	}
	return keys
}

func shardOfHash(h keystore.Hash) uint16 { return uint16(h[0])<<4 | uint16(h[1])>>4 }
func shardOfID(id string) uint16         { return uint16(maphash.String(seed, id) % numShards) }

var seed = maphash.MakeSeed()

// numShards is large, so that shards are small: a changed chunk copies the shards of its keys.
const numShards = 1 << 12

// shards is a map in parts. Copies share the parts that have not changed since.
type shards[K comparable, V any] struct {
	maps  [numShards]map[K]V
	owned [numShards]bool // the maps that no copy shares
}

// share returns a copy.
func (s *shards[K, V]) share() shards[K, V] { return shards[K, V]{maps: s.maps} }

// own returns one of the maps, which may then be changed.
func (s *shards[K, V]) own(i uint16) map[K]V {
	if !s.owned[i] {
		s.owned[i] = true
		if s.maps[i] = maps.Clone(s.maps[i]); s.maps[i] == nil {
			s.maps[i] = make(map[K]V)
		}
	}
	return s.maps[i]
}

// add adds a key. It returns false if there is one already.
func (s *shards[K, V]) add(i uint16, key K, value V) bool {
	m := s.own(i)
	if _, ok := m[key]; ok {
		return false
	}
	m[key] = value
	return true
}

// allErrors returns everything that is wrong with the files, in their order.
func allErrors(files []parsedFile) strictyaml.Errors {
	var errs strictyaml.Errors
	d := newDuplicates()
	d.owners = make(map[place]string)
	for _, f := range files {
		for _, c := range f.chunks {
			errs = append(errs, d.add(f.path, c)...)
		}
	}
	return errs
}
