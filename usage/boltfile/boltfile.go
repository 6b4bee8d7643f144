// Package boltfile stores usage in one file, an embedded database, for servers whose keys are in
// files. The file is open only during a batch or a query, so that commands can read it while servers
// run, and several servers on one machine can share it.
package boltfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"extauthz/usage"
)

// A Store is a [usage.Store] in a file. Create one with [Open].
type Store struct {
	path   string
	limits usage.Limits
	now    func() time.Time

	mu     sync.Mutex // one transaction at a time in this process
	pruned time.Time  // when old rows were last removed; guarded by mu
}

const (
	lockTimeout = 5 * time.Second // how long to wait for another process that has the file open
	pruneEvery  = time.Hour
	fileMode    = 0o600 // addresses are personal data
)

var (
	rowsBucket      = []byte("rows")
	summariesBucket = []byte("summaries")
	serversBucket   = []byte("servers")
)

// Open returns a store in the file, which the first Add creates. Its folder must exist.
func Open(path string, limits usage.Limits) *Store {
	return &Store{path: path, limits: limits, now: time.Now}
}

// Close does nothing: the file is only open during calls.
func (s *Store) Close() error { return nil }

// Add implements [usage.Store]. The batch is on the disk when it returns.
func (s *Store) Add(_ context.Context, b *usage.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	db, err := bolt.Open(s.path, fileMode, &bolt.Options{Timeout: lockTimeout})
	if err != nil {
		return s.failure(err)
	}
	prune := s.now().Sub(s.pruned) >= pruneEvery
	err = db.Update(func(tx *bolt.Tx) error {
		w, err := newWriter(tx, s.limits)
		if err != nil {
			return err
		}
		if err := w.add(b); err != nil || !prune {
			return err
		}
		return w.prune(s.now().Add(-s.limits.Retention))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return s.failure(err)
	}
	if prune {
		s.pruned = s.now()
	}
	b.Remove(len(b.Summaries))
	return nil
}

// view calls read in a transaction, unless the file does not exist yet.
func (s *Store) view(read func(rows, summaries *bolt.Bucket) error) error {
	return s.viewTx(func(tx *bolt.Tx) error {
		rows, summaries := tx.Bucket(rowsBucket), tx.Bucket(summariesBucket)
		if rows == nil || summaries == nil {
			return nil
		}
		return read(rows, summaries)
	})
}

// viewTx is view for any of the buckets.
func (s *Store) viewTx(read func(*bolt.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	db, err := bolt.Open(s.path, fileMode, &bolt.Options{Timeout: lockTimeout, ReadOnly: true})
	if err != nil {
		return s.failure(err)
	}
	err = db.View(read)
	if err := errors.Join(err, db.Close()); err != nil {
		return s.failure(err)
	}
	return nil
}

func (s *Store) failure(err error) error {
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("usage: %s: another process has had the file open for %s", s.path, lockTimeout)
	}
	return fmt.Errorf("usage: %s: %w", s.path, err)
}

// Key implements [usage.Store].
func (s *Store) Key(_ context.Context, id string, since time.Time) (*usage.KeyUsage, error) {
	u := &usage.KeyUsage{Summary: usage.Summary{KeyID: id}}
	err := s.view(func(rows, summaries *bolt.Bucket) error {
		if b := summaries.Get([]byte(id)); b != nil {
			stored, err := decodeSummary([]byte(id), b)
			if err != nil {
				return err
			}
			u.Summary = stored.Summary
		}
		return eachRow(rows, keyPrefix(id), func(r *usage.Row) {
			if !r.Last.Before(since) {
				u.Rows = append(u.Rows, *r)
			}
		})
	})
	if err != nil {
		return nil, err
	}
	usage.SortRows(u.Rows)
	return u, nil
}

// summariesAtOnce is how many summaries are read before the file is closed again.
const summariesAtOnce = 1000

// Summaries implements [usage.Store].
func (s *Store) Summaries(ctx context.Context, after string) iter.Seq2[*usage.Summary, error] {
	return func(yield func(*usage.Summary, error) bool) {
		for {
			page, err := s.summaries(after)
			if err = errors.Join(err, ctx.Err()); err != nil {
				yield(nil, err)
				return
			}
			for i := range page {
				if !yield(&page[i], nil) {
					return
				}
			}
			if len(page) < summariesAtOnce {
				return
			}
			after = page[len(page)-1].KeyID
		}
	}
}

func (s *Store) summaries(after string) (page []usage.Summary, err error) {
	err = s.view(func(_, summaries *bolt.Bucket) error {
		c := summaries.Cursor()
		k, v := c.Seek([]byte(after))
		if after != "" && bytes.Equal(k, []byte(after)) {
			k, v = c.Next()
		}
		for ; k != nil && len(page) < summariesAtOnce; k, v = c.Next() {
			stored, err := decodeSummary(k, v)
			if err != nil {
				return err
			}
			page = append(page, stored.Summary)
		}
		return nil
	})
	return page, err
}

// SummariesOf implements [usage.Store].
func (s *Store) SummariesOf(_ context.Context, ids []string) (map[string]*usage.Summary, error) {
	found := make(map[string]*usage.Summary, len(ids))
	err := s.view(func(_, summaries *bolt.Bucket) error {
		for _, id := range ids {
			b := summaries.Get([]byte(id))
			if b == nil {
				continue
			}
			stored, err := decodeSummary([]byte(id), b)
			if err != nil {
				return err
			}
			if !stored.LastUsed.IsZero() {
				found[id] = &stored.Summary
			}
		}
		return nil
	})
	return found, err
}

// Sharers implements [usage.Store]. It reads the whole file.
func (s *Store) Sharers(_ context.Context, networks []netip.Prefix, since time.Time) (map[netip.Prefix][]string, error) {
	sharers := make(map[netip.Prefix][]string)
	err := s.view(func(rows, _ *bolt.Bucket) error {
		return eachRow(rows, nil, func(r *usage.Row) {
			if r.Allowed == 0 || r.Last.Before(since) || !slices.Contains(networks, r.Network) {
				return
			}
			ids := sharers[r.Network]
			if len(ids) == 0 || ids[len(ids)-1] != r.KeyID { // rows come by key
				sharers[r.Network] = append(ids, r.KeyID)
			}
		})
	})
	return sharers, err
}

// Refusals implements [usage.Store]. It reads the whole file.
func (s *Store) Refusals(_ context.Context, since time.Time, limit int) ([]usage.Row, error) {
	var refusals []usage.Row
	err := s.view(func(rows, _ *bolt.Bucket) error {
		return eachRow(rows, nil, func(r *usage.Row) {
			if !r.Last.Before(since) && r.RefusedTotal() > 0 {
				refusals = append(refusals, *r)
			}
		})
	})
	slices.SortStableFunc(refusals, func(a, b usage.Row) int { return b.Last.Compare(a.Last) })
	return refusals[:min(limit, len(refusals))], err
}

// eachRow calls f with each row whose key begins with the prefix.
func eachRow(rows *bolt.Bucket, prefix []byte, f func(*usage.Row)) error {
	c := rows.Cursor()
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		r, err := decodeRow(k, v)
		if err != nil {
			return err
		}
		f(&r)
	}
	return nil
}
