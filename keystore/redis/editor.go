package redis

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"github.com/redis/rueidis"

	"extauthz/audit"
	"extauthz/keystore"
)

const (
	pageSize  = 200 // keys that are read in one round trip
	batchSize = 100 // keys that are put in one: the server does nothing else in the meantime
)

// Keys implements [keystore.Editor]. If a record has another id than its member of the index, Keys
// yields it with the id of the index, as a Broken key.
func (s *Store) Keys(ctx context.Context, after string) iter.Seq2[*keystore.Key, error] {
	return func(yield func(*keystore.Key, error) bool) {
		from := "-"
		if after != "" {
			from = "(" + after + "!" // past "<after> <hash>", before every longer id
		}
		for {
			found, err := s.find(ctx, from, "+", pageSize)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, e := range found {
				if e.key != nil && !yield(e.key, nil) {
					return
				}
			}
			if len(found) < pageSize {
				return
			}
			from = "(" + found[len(found)-1].member
		}
	}
}

// Key implements [keystore.Editor].
func (s *Store) Key(ctx context.Context, id string) (*keystore.Key, error) {
	e, err := s.entry(ctx, id)
	return e.key, err
}

// An entry is a member of the index, with the record that it refers to.
type entry struct {
	member string
	record string        // as it is stored
	key    *keystore.Key // nil if there is no record
}

// entry returns the entry of an id that has a record, or [keystore.ErrNotFound].
func (s *Store) entry(ctx context.Context, id string) (entry, error) {
	if keystore.ValidateID(id) != nil {
		return entry{}, keystore.ErrNotFound
	}
	found, err := s.find(ctx, "["+id+" ", "("+id+"!", pageSize)
	if err != nil {
		return entry{}, err
	}
	i := slices.IndexFunc(found, func(e entry) bool { return e.key != nil })
	if i < 0 {
		return entry{}, keystore.ErrNotFound
	}
	return found[i], nil
}

// find returns the entries between two members of the index.
func (s *Store) find(ctx context.Context, from, to string, limit int) ([]entry, error) {
	answer, err := s.run(ctx, readScript, nil, from, to, strconv.Itoa(limit)).ToArray()
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	return newEntries(answer)
}

// newEntries returns the entries of alternating members and records.
func newEntries(answer []rueidis.RedisMessage) ([]entry, error) {
	entries := make([]entry, 0, len(answer)/2)
	for pair := range slices.Chunk(answer, 2) {
		m, err := pair[0].ToString()
		if err != nil || len(pair) < 2 {
			return nil, errors.New("redis: the index cannot be read")
		}
		entries = append(entries, newEntry(m, &pair[1]))
	}
	return entries, nil
}

// newEntry returns the entry of a member of the index and its record.
func newEntry(member string, record *rueidis.RedisMessage) entry {
	e := entry{member: member}
	if id, h, ok := splitMember(member); ok && !record.IsNil() && !isPointer(record) {
		e.record, _ = record.ToString()
		e.key = read(h, record)
		if e.key.ID != id {
			if e.key.Broken == nil {
				e.key.Break(fmt.Errorf("the index lists it as %s, but its id is %s: write it again", id, e.key.ID))
			}
			e.key.ID = id
		}
	}
	return e
}

// Add implements [keystore.Editor].
func (s *Store) Add(ctx context.Context, k *keystore.Key) error {
	record, err := encode(k)
	if err != nil {
		return err
	}
	edit, err := newEdit(ctx, nil, k)
	if err != nil {
		return err
	}
	code, err := s.run(ctx, addScript, []string{s.names.record(k.Hash)}, k.ID, k.Hash.String(), record, edit).AsInt64()
	return outcome(k.ID, code, err)
}

// AddAbsent implements [keystore.Editor].
func (s *Store) AddAbsent(ctx context.Context, keys []*keystore.Key) (existing []*keystore.Key, err error) {
	records, err := encodeAll(keys)
	if err != nil {
		return nil, err
	}
	bulk := len(keys) > audit.Detailed
	for batch := range slices.Chunk(keys, batchSize) {
		names, args := make([]string, 0, len(batch)), make([]string, 0, 4*len(batch)+1)
		ofAll := ""
		for i, k := range batch {
			edit := ""
			if !bulk {
				if edit, err = newEdit(ctx, nil, k); err != nil {
					return nil, err
				}
			}
			names = append(names, s.names.record(k.Hash))
			args = append(args, k.ID, k.Hash.String(), records[i], edit)
		}
		if bulk {
			if ofAll, err = bulkEdit(ctx, batch[0]); err != nil {
				return nil, err
			}
		}
		records = records[len(batch):]
		entries, err := s.runBatch(ctx, addAbsentScript, batch, names, append(args, ofAll))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.key != nil {
				existing = append(existing, e.key)
			}
		}
	}
	return existing, nil
}

// Put implements [keystore.Editor]. If several keys have the same id, it writes the last one.
func (s *Store) Put(ctx context.Context, keys []*keystore.Key) error {
	keys = lastOfEach(keys)
	records, err := encodeAll(keys)
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(keys, batchSize) {
		for {
			err := s.putBatch(ctx, batch, records[:len(batch)])
			if err == nil {
				break
			}
			if !errors.Is(err, errChanged) {
				return err
			}
		}
		records = records[len(batch):]
	}
	return nil
}

// lastOfEach returns the keys without those whose id occurs again later.
func lastOfEach(keys []*keystore.Key) []*keystore.Key {
	last := make(map[string]*keystore.Key, len(keys))
	for _, k := range keys {
		last[k.ID] = k
	}
	if len(last) == len(keys) {
		return keys
	}
	return slices.DeleteFunc(slices.Clone(keys), func(k *keystore.Key) bool { return last[k.ID] != k })
}

// putBatch puts keys, with the audit record of each, or returns errChanged.
func (s *Store) putBatch(ctx context.Context, batch []*keystore.Key, records []string) error {
	ids := make([]string, len(batch))
	for i, k := range batch {
		ids[i] = k.ID
	}
	held, err := s.held(ctx, ids...)
	if err != nil {
		return err
	}
	names, args := make([]string, 0, len(batch)), make([]string, 0, 5*len(batch))
	for i, k := range batch {
		edit, err := newEdit(ctx, held[i].key, k)
		if err != nil {
			return err
		}
		names = append(names, s.names.record(k.Hash))
		args = append(args, k.ID, k.Hash.String(), records[i], held[i].record, edit)
	}
	_, err = s.runBatch(ctx, putScript, batch, names, args)
	return err
}

// errChanged means that a record has changed since it was read.
var errChanged = errors.New("redis: a key has changed in the meantime")

// runBatch runs a script that writes the keys of a batch, and returns the entries that it returns.
func (s *Store) runBatch(ctx context.Context, script *rueidis.Lua, batch []*keystore.Key, names, args []string) ([]entry, error) {
	answer, err := s.run(ctx, script, names, args...).ToArray()
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	if len(answer) == 0 {
		return nil, errors.New("redis: the script's answer cannot be read")
	}
	switch n, err := answer[0].AsInt64(); {
	case err != nil:
		return nil, fmt.Errorf("redis: %w", err)
	case n < 0:
		return nil, errChanged
	case n > 0 && n <= int64(len(batch)):
		return nil, outcome(batch[n-1].ID, exists, nil)
	}
	return newEntries(answer[1:])
}

// held returns an entry for each id, without a key if it has no record.
func (s *Store) held(ctx context.Context, ids ...string) ([]entry, error) {
	answer, err := s.run(ctx, heldScript, nil, ids...).ToArray()
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	if len(answer) != 2*len(ids) {
		return nil, errors.New("redis: the index cannot be read")
	}
	entries := make([]entry, len(ids))
	for i := range ids {
		if member, err := answer[2*i].ToString(); err == nil { // else there is none
			entries[i] = newEntry(member, &answer[2*i+1])
			if entries[i].record, err = answer[2*i+1].ToString(); err != nil {
				entries[i].record = "" // as in the scripts for entries that are not strings
			}
		}
	}
	return entries, nil
}

// Update implements [keystore.Editor]. It returns an error for a Broken key, since the fields that
// could not be read would be lost: write the key again, or delete it.
func (s *Store) Update(ctx context.Context, id string, change func(*keystore.Key) error) error {
	for {
		e, err := s.entry(ctx, id)
		if err != nil {
			return err
		}
		if e.key.Broken != nil {
			return fmt.Errorf("key %s: its record cannot be read, so write it again or delete it: %w", id, e.key.Broken)
		}
		before, old := e.key.Clone(), e.key.Hash
		if err := change(e.key); err != nil {
			return err
		}
		if e.key.ID != id {
			return fmt.Errorf("key %s: its id cannot change to %q: delete the key, and add it again", id, e.key.ID)
		}
		record, err := encode(e.key)
		if err != nil {
			return err
		}
		edit, err := newEdit(ctx, before, e.key)
		if err != nil {
			return err
		}
		code, err := s.run(ctx, updateScript, []string{s.names.record(e.key.Hash), s.names.record(old)},
			id, e.key.Hash.String(), record, old.String(), e.record, edit).AsInt64()
		if err != nil || code != changed {
			return outcome(id, code, err)
		}
	}
}

// Delete implements [keystore.Editor].
func (s *Store) Delete(ctx context.Context, id string) error {
	if keystore.ValidateID(id) != nil {
		return keystore.ErrNotFound
	}
	for {
		held, err := s.held(ctx, id)
		if err != nil {
			return err
		}
		edit := ""
		if held[0].key != nil {
			if edit, err = newEdit(ctx, held[0].key, nil); err != nil {
				return err
			}
		}
		switch n, err := s.run(ctx, deleteScript, nil, id, held[0].record, edit).AsInt64(); {
		case err != nil:
			return fmt.Errorf("redis: %w", err)
		case n == 0:
			return keystore.ErrNotFound
		case n > 0:
			return nil
		}
	}
}

// outcome returns the error of an edit of id, given the script's result.
func outcome(id string, code int64, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("redis: %w", err)
	case code == exists:
		return fmt.Errorf("key %s: %w", id, keystore.ErrExists)
	}
	return nil
}

// run executes a script on the index and the named records.
func (s *Store) run(ctx context.Context, script *rueidis.Lua, names []string, args ...string) rueidis.RedisResult {
	return s.client.Do(ctx, func(ctx context.Context, client rueidis.Client) rueidis.RedisResult {
		return script.Exec(ctx, client, append([]string{s.names.ids}, names...), append([]string{s.names.records}, args...))
	})
}
