// Package importer writes the keys of a key file to a store. A key whose id is already in the store
// is left unchanged unless the caller sets Overwrite: an old file must not undo a revocation.
package importer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/yamlfile"
)

// Options are the settings of an import. Editor, BatchSize and Writers must be set.
type Options struct {
	Editor    keystore.Editor
	BatchSize int           // keys that are written together, and perhaps again after an interrupted import
	Writers   int           // parts of a batch that are written at the same time
	Timeout   time.Duration // for one batch; 0: none
	After     string        // skip the file's keys up to the one with this id; "": none
	Overwrite bool          // also write keys that differ from those in the store

	// OnDifferent, if non-nil, is called for each key that differs from the one in the store
	// with its id, after it was overwritten or left unchanged.
	OnDifferent func(Difference)
	// OnProgress, if non-nil, is called after each batch with the result so far and the number
	// of bytes of the file that were read.
	OnProgress func(r Result, bytes int)
}

// A Result is what an import did, complete or up to an error.
type Result struct {
	Added     int    // keys whose id was not in the store
	Same      int    // keys that are in the store as they are in the file
	Different int    // keys that differ in the store: overwritten or left unchanged
	Last      string // the id of the last key of the last complete batch; "": none
	Passed    bool   // whether the key with the id After was found
}

// Keys returns how many keys of the file were processed.
func (r Result) Keys() int { return r.Added + r.Same + r.Different }

// Run imports a file. It ends at the first error: the keys up to and including [Result.Last] are
// then in the store, and some of the next batch may be.
func Run(ctx context.Context, file *File, o Options) (Result, error) {
	i := &importer{Options: o}
	parts := yamlfile.Parts(file.Name, file)
	for b := range readAhead(ctx, batches(parts, o.BatchSize, o.After)) {
		if i.result.Passed = i.result.Passed || b.passed; b.err != nil {
			return i.result, b.err
		}
		if len(b.keys) == 0 {
			continue
		}
		if err := i.writeBatch(ctx, b.keys); err != nil {
			return i.result, err
		}
		if o.OnProgress != nil {
			o.OnProgress(i.result, b.offset)
		}
	}
	return i.result, nil
}

type importer struct {
	Options
	result Result
}

// writeBatch writes the parts of a batch at the same time.
func (i *importer) writeBatch(ctx context.Context, keys []*keystore.Key) error {
	if i.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, i.Timeout)
		defer cancel()
	}
	parts := slices.Collect(slices.Chunk(keys, (len(keys)+i.Writers-1)/i.Writers))
	results, errs := make([]partResult, len(parts)), make([]error, len(parts))
	var wg sync.WaitGroup
	for n, part := range parts {
		wg.Go(func() {
			var err error
			if results[n], err = i.writePart(ctx, part); err != nil {
				errs[n] = fmt.Errorf("importing the keys from %s to %s: %w", part[0].ID, part[len(part)-1].ID, err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, r := range results {
		i.result.Added += r.added
		i.result.Same += r.same
		i.result.Different += len(r.different)
		for _, d := range r.different {
			if i.OnDifferent != nil {
				i.OnDifferent(d)
			}
		}
	}
	i.result.Last = keys[len(keys)-1].ID
	return nil
}

// A partResult is the result of writing one part of a batch.
type partResult struct {
	added, same int
	different   []Difference
}

func (i *importer) writePart(ctx context.Context, keys []*keystore.Key) (partResult, error) {
	existing, err := i.Editor.AddAbsent(ctx, keys)
	if err != nil {
		return partResult{}, err
	}
	r := partResult{added: len(keys) - len(existing)}
	if len(existing) == 0 {
		return r, nil
	}
	byID := make(map[string]*keystore.Key, len(existing))
	for _, k := range existing {
		byID[k.ID] = k
	}
	var changed []*keystore.Key
	for _, k := range keys {
		switch stored := byID[k.ID]; {
		case stored == nil:
		case same(stored, k):
			r.same++
		default:
			r.different = append(r.different, Difference{Stored: stored, File: k})
			changed = append(changed, k)
		}
	}
	if !i.Overwrite || len(changed) == 0 {
		return r, nil
	}
	return r, i.Editor.Put(ctx, changed)
}
