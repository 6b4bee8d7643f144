package boltfile

import (
	"bytes"
	"time"

	bolt "go.etcd.io/bbolt"

	"extauthz/usage"
)

// A writer changes the file in one transaction.
type writer struct {
	rows, summaries *bolt.Bucket
	limits          usage.Limits
}

func newWriter(tx *bolt.Tx, limits usage.Limits) (*writer, error) {
	rows, err := tx.CreateBucketIfNotExists(rowsBucket)
	if err != nil {
		return nil, err
	}
	summaries, err := tx.CreateBucketIfNotExists(summariesBucket)
	if err != nil {
		return nil, err
	}
	return &writer{rows, summaries, limits}, nil
}

func (w *writer) add(b *usage.Batch) error {
	added := make(map[string]uint64) // networks that are new, by key
	for i := range b.Rows {
		r := b.Rows[i]
		if !w.hasNetwork(&r) {
			added[r.KeyID]++
		}
		k := rowKey(&r)
		if v := w.rows.Get(k); v != nil {
			stored, err := decodeRow(k, v)
			if err != nil {
				return err
			}
			r.Merge(&stored)
		}
		if err := w.rows.Put(k, encodeRow(&r)); err != nil {
			return err
		}
	}
	for i := range b.Summaries {
		if err := w.addSummary(&b.Summaries[i], added[b.Summaries[i].KeyID]); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) hasNetwork(r *usage.Row) bool {
	prefix := networkPrefix(r.KeyID, r.Network)
	k, _ := w.rows.Cursor().Seek(prefix)
	return bytes.HasPrefix(k, prefix)
}

// addSummary merges s into what is stored, and drops addresses if the key has too many now.
func (w *writer) addSummary(s *usage.Summary, added uint64) error {
	stored := storedSummary{Summary: usage.Summary{KeyID: s.KeyID}}
	if v := w.summaries.Get([]byte(s.KeyID)); v != nil {
		var err error
		if stored, err = decodeSummary([]byte(s.KeyID), v); err != nil {
			return err
		}
	}
	stored.Merge(s)
	stored.networks += added
	if stored.networks > uint64(w.limits.AddressesPerKey) { //nolint:gosec // a positive setting
		if err := w.trim(&stored); err != nil {
			return err
		}
	}
	return w.summaries.Put([]byte(s.KeyID), encodeSummary(&stored))
}

// trim removes the rows of the addresses that the limits do not keep.
func (w *writer) trim(s *storedSummary) error {
	var u usage.KeyUsage
	if err := eachRow(w.rows, keyPrefix(s.KeyID), func(r *usage.Row) { u.Rows = append(u.Rows, *r) }); err != nil {
		return err
	}
	usage.SortRows(u.Rows)
	drop := usage.Surplus(u.Addresses(time.Time{}), w.limits.AddressesPerKey)
	for i := range u.Rows {
		if drop[u.Rows[i].Network] {
			if err := w.rows.Delete(rowKey(&u.Rows[i])); err != nil {
				return err
			}
		}
	}
	if len(drop) > 0 {
		s.Dropped = s.LastUsed
	}
	s.networks = uint64(min(len(u.Addresses(time.Time{})), w.limits.AddressesPerKey)) //nolint:gosec // a positive setting
	return nil
}

// prune removes the rows of the days before the given moment, and the addresses of keys that
// were not used since.
func (w *writer) prune(before time.Time) error {
	kept := make(map[string]map[string]bool) // networks that are left, by key
	var old [][]byte
	err := w.rows.ForEach(func(k, v []byte) error {
		r, err := decodeRow(k, v)
		if err != nil {
			return err
		}
		if r.Last.Before(before) {
			old = append(old, bytes.Clone(k))
			return nil
		}
		if kept[r.KeyID] == nil {
			kept[r.KeyID] = make(map[string]bool)
		}
		kept[r.KeyID][r.Network.String()] = true
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range old {
		if err := w.rows.Delete(k); err != nil {
			return err
		}
	}
	return w.pruneSummaries(before, func(id string) uint64 { return uint64(len(kept[id])) })
}

func (w *writer) pruneSummaries(before time.Time, networks func(id string) uint64) error {
	changed := make(map[string][]byte)
	err := w.summaries.ForEach(func(k, v []byte) error {
		s, err := decodeSummary(k, v)
		if err != nil {
			return err
		}
		if s.LastUsed.Before(before) {
			s.LastNetwork = usage.Summary{}.LastNetwork
		}
		s.networks = networks(s.KeyID)
		changed[s.KeyID] = encodeSummary(&s)
		return nil
	})
	if err != nil {
		return err
	}
	for id, v := range changed {
		if err := w.summaries.Put([]byte(id), v); err != nil {
			return err
		}
	}
	return nil
}
