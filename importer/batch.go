package importer

import (
	"context"
	"iter"

	"extauthz/keystore"
	"extauthz/keystore/yamlfile"
)

// A batch is a number of keys of a file that are written together.
type batch struct {
	keys   []*keystore.Key
	offset int  // how many bytes of the file have been read
	passed bool // whether the key after which the import starts was seen
	err    error
}

// batches collects the parts of a file into batches of at least size keys, without the keys up to
// the one with the id after. It ends at the first error.
func batches(parts iter.Seq2[yamlfile.Part, error], size int, after string) iter.Seq[batch] {
	return func(yield func(batch) bool) {
		b := batch{passed: after == ""}
		for p, err := range parts {
			if err != nil {
				if len(b.keys) == 0 || yield(b) {
					yield(batch{err: err, passed: b.passed})
				}
				return
			}
			b.offset = p.End
			for _, k := range p.Keys {
				if b.passed {
					b.keys = append(b.keys, k)
				}
				b.passed = b.passed || k.ID == after
			}
			if len(b.keys) >= size {
				if !yield(b) {
					return
				}
				b = batch{passed: true}
			}
		}
		yield(b)
	}
}

// readAhead reads the next batch while the current one is written. When ctx is done, it ends with
// an error, even while it waits for input.
func readAhead(ctx context.Context, batches iter.Seq[batch]) iter.Seq[batch] {
	return func(yield func(batch) bool) {
		reading, cancel := context.WithCancel(ctx)
		defer cancel()
		next := make(chan batch)
		go func() {
			defer close(next)
			for b := range batches {
				select {
				case next <- b:
				case <-reading.Done():
					return
				}
			}
		}()
		for {
			var b batch
			ok := false
			select {
			case b, ok = <-next:
			case <-ctx.Done():
			}
			switch {
			case !ok && ctx.Err() != nil:
				yield(batch{err: context.Cause(ctx)})
				return
			case !ok || !yield(b):
				return
			}
		}
	}
}
