// Package yamlfile keeps keys in a YAML file that people write by hand, or in a folder of
// them: strictly read, read again whenever it changes, and edited with its comments kept.
package yamlfile

import (
	"context"
	"crypto/sha256"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// Options are what a store can be told. The zero value is ready.
type Options struct {
	// OnReload, where set, is called after each time that the files were read again. It is
	// called from one goroutine at a time, and the next reload waits for it.
	OnReload func(Reload)

	// OnPolling, if non-nil, is called by Watch when it cannot get notifications of changes from
	// the system, and from then on finds them by polling alone.
	OnPolling func(error)

	pollAlone bool // watches as where the system cannot tell of changes
}

// A Reload is the outcome of reading the files again.
type Reload struct {
	Err      error             // why the set before is still in use; nil where the new one is
	Repeated bool              // the files could not be read the last time either; they are tried again until they can be
	Before   int               // how many keys were in use
	Keys     int               // how many keys are in use now
	Warnings strictyaml.Errors // of the set that is in use now
	Duration time.Duration     // how long reading took
}

// A Store is a key file, or a folder of *.yaml and *.yml files whose names do not begin with a
// dot. Its keys are in memory: looking one up takes no lock, and sees each state of the files
// whole. It is safe for concurrent use. [Open] makes one.
type Store struct {
	*Editor

	path    string
	opts    Options
	current atomic.Pointer[set]

	mu         sync.Mutex        // held while the files are read
	digest     [sha256.Size]byte // of what was read last, sound or not
	stamp      string            // of the files then
	unreadable bool              // the files could not be read
}

var (
	_ keystore.Store  = (*Store)(nil)
	_ keystore.Editor = (*Store)(nil)
)

// Open reads the file or folder at path. Its error is a [strictyaml.Errors]: everything that
// is wrong, in all the files.
//
// The keys stay as they are until [Store.Reload], or an edit by way of this Store;
// [Store.Watch] follows the files.
func Open(path string, opts Options) (*Store, error) {
	s := &Store{path: path, opts: opts, Editor: NewEditor(path)}
	s.Editor.written = s.Reload
	if _, err := s.load(true); err != nil {
		return nil, err
	}
	return s, nil
}

// Lookup implements [keystore.Store]. Its only error is [keystore.ErrNotFound].
func (s *Store) Lookup(_ context.Context, h keystore.Hash) (*keystore.Key, error) {
	if k := s.current.Load().index.find(h); k != nil {
		return k, nil
	}
	return nil, keystore.ErrNotFound
}

// Len returns how many keys there are.
func (s *Store) Len() int { return s.current.Load().index.len }

// Warnings returns what is allowed in the files, but hardly meant, as it was when they were
// last read without an error.
func (s *Store) Warnings() strictyaml.Errors { return s.current.Load().warnings }

// Reload reads the files again. Where that fails, the keys stay as they were. Its error is as
// that of [Open].
func (s *Store) Reload() error { return s.reload(true) }

// reload reads the files again, unless they hold what they held when they were last read.
func (s *Store) reload(always bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	start, before, unreadable := time.Now(), s.Len(), s.unreadable
	read, err := s.load(always)
	if (read || s.unreadable) && s.opts.OnReload != nil {
		s.opts.OnReload(Reload{
			Err: err, Repeated: !always && unreadable && s.unreadable,
			Before: before, Keys: s.Len(), Warnings: s.Warnings(), Duration: time.Since(start),
		})
	}
	return err
}

// releaseFrom is how many bytes of key files it takes until the memory that reading them took
// is worth giving back to the system at once.
const releaseFrom = 4 << 20

// load reports whether the files were new, or always.
func (s *Store) load(always bool) (bool, error) {
	stamp := stamp(s.path) // before reading: what is written meanwhile counts as a change
	before := s.current.Load()
	first := before == nil
	if first {
		before = &set{}
	}
	var p *pacer
	if !first {
		p = newPacer()
	}
	files, err := eachFile(s.path, scanner{before.chunks, p}.file)
	digest, size := digest(files, err)
	same := digest == s.digest
	s.digest, s.stamp, s.unreadable = digest, stamp, err != nil
	if err != nil {
		return !same, err
	}
	if same && !always {
		return false, nil
	}
	next, err := newSet(files, before, p)
	if err != nil {
		return true, err
	}
	s.current.Store(next)
	if first && size >= releaseFrom {
		debug.FreeOSMemory()
	}
	return true, nil
}

func (s *Store) stampRead() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stamp
}

// isUnreadable reports whether the files could not be read.
func (s *Store) isUnreadable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unreadable
}

// digest returns a hash of all that was read, and how many bytes that is.
func digest(files []scan, err error) (sum [sha256.Size]byte, size int) {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%s %d %x\n", f.path, f.size, f.head)
		for _, c := range f.chunks {
			h.Write(c.id.sum[:])
		}
		size += f.size
	}
	if err != nil {
		fmt.Fprintln(h, err)
	}
	h.Sum(sum[:0])
	return sum, size
}
