package redis

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"github.com/redis/rueidis"

	"extauthz/keystore"
)

const (
	pageSize  = 200 // keys that are read in one round trip
	batchSize = 100 // keys that are put in one: the server does nothing else meanwhile
)

// Keys implements [keystore.Editor]. A record whose id is not the one that the index names it
// by is yielded under that, as a broken key.
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

// An entry is what the index holds, with the record that it leads to.
type entry struct {
	member string
	record string        // as it is stored
	key    *keystore.Key // nil where there is no record
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

// newEntries returns the entries of members and records in turns.
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

// newEntry returns the entry of a member of the index and the record that it names.
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
	code, err := s.run(ctx, addScript, []string{s.names.record(k.Hash)}, k.ID, k.Hash.String(), record).AsInt64()
	return outcome(k.ID, code, err)
}

// AddAbsent implements [keystore.Editor].
func (s *Store) AddAbsent(ctx context.Context, keys []*keystore.Key) (existing []*keystore.Key, err error) {
	err = s.inBatches(ctx, addAbsentScript, keys, func(found []entry) {
		for _, e := range found {
			if e.key != nil {
				existing = append(existing, e.key)
			}
		}
	})
	return existing, err
}

// Put implements [keystore.Editor].
func (s *Store) Put(ctx context.Context, keys []*keystore.Key) error {
	return s.inBatches(ctx, putScript, keys, func([]entry) {})
}

// inBatches runs a script that writes many keys on batches of the keys, and calls found with
// the entries that the script returns for each batch.
func (s *Store) inBatches(ctx context.Context, script *rueidis.Lua, keys []*keystore.Key, found func([]entry)) error {
	records := make([]string, len(keys))
	for i, k := range keys {
		var err error
		if records[i], err = encode(k); err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(keys, batchSize) {
		names, args := make([]string, 0, len(batch)), make([]string, 0, 3*len(batch))
		for i, k := range batch {
			names = append(names, s.names.record(k.Hash))
			args = append(args, k.ID, k.Hash.String(), records[i])
		}
		records = records[len(batch):]
		answer, err := s.run(ctx, script, names, args...).ToArray()
		if err != nil {
			return fmt.Errorf("redis: %w", err)
		}
		if len(answer) == 0 {
			return errors.New("redis: the script's answer cannot be read")
		}
		switch n, err := answer[0].AsInt64(); {
		case err != nil:
			return fmt.Errorf("redis: %w", err)
		case n > 0 && n <= int64(len(batch)):
			return outcome(batch[n-1].ID, exists, nil)
		}
		entries, err := newEntries(answer[1:])
		if err != nil {
			return err
		}
		found(entries)
	}
	return nil
}

// Update implements [keystore.Editor]. A key that is broken cannot be updated, for what could
// not be read of it would be lost: it is written again, or deleted.
func (s *Store) Update(ctx context.Context, id string, change func(*keystore.Key) error) error {
	for {
		e, err := s.entry(ctx, id)
		if err != nil {
			return err
		}
		if e.key.Broken != nil {
			return fmt.Errorf("key %s: its record cannot be read, so write it again or delete it: %w", id, e.key.Broken)
		}
		old := e.key.Hash
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
		code, err := s.run(ctx, updateScript, []string{s.names.record(e.key.Hash), s.names.record(old)},
			id, e.key.Hash.String(), record, old.String(), e.record).AsInt64()
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
	n, err := s.run(ctx, deleteScript, nil, id).AsInt64()
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	if n == 0 {
		return keystore.ErrNotFound
	}
	return nil
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
