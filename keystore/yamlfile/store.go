// Package yamlfile stores keys in a YAML file that people write by hand, or in a folder of such
// files. It reads them strictly, reloads them when they change, and edits them with their comments
// kept.
//
// A file is parsed in chunks of some keys each (parse.go), whose keys make a snapshot (snapshot.go).
// A reload parses only the chunks whose text has changed. An edit writes only the entries that
// change (edit.go, rewrite.go). The fields of a key are in fields.go.
package yamlfile

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"extauthz/audit"
	"extauthz/files"
	"extauthz/keystore"
	"extauthz/strictyaml"
)

// Options are a store's settings. The zero value is ready to use.
type Options struct {
	// OnReload, if non-nil, is called after each reload that failed, or found other text than the
	// reload before. Calls do not overlap, and the next reload waits for them.
	OnReload func(Reload)

	// OnPolling, if non-nil, is called by Watch when it cannot get notifications of changes from
	// the system, and from then on finds them by polling alone.
	OnPolling func(error)

	pollOnly bool // for tests
}

// A Reload is the outcome of reading the files again.
type Reload struct {
	Err      error             // why the old keys are still in use; nil if the new ones are
	Repeated bool              // the files could not be read the last time either; Watch tries again until they can be
	Before   int               // the number of keys before
	Keys     int               // the number of keys now
	Warnings strictyaml.Errors // about the keys that are in use now
	Duration time.Duration
}

// A Store is a key file, or a folder of *.yaml and *.yml files whose names do not begin with a
// dot. Its keys are in memory. A lookup takes no lock, and sees one state of the files or the next,
// never a mix. A Store is safe for concurrent use. Use [Open] to make one.
type Store struct {
	*Editor

	path    string
	opts    Options
	current atomic.Pointer[snapshot]

	mu         sync.Mutex        // held while the files are read
	sum        [sha256.Size]byte // of what was read last, valid or not
	unreadable bool              // the files could not be read
}

var (
	_ audit.Editor     = (*Store)(nil)
	_ keystore.Counter = (*Store)(nil)
	_ keystore.Watcher = (*Store)(nil)
)

// Open reads the file or folder at path. Its error is a [strictyaml.Errors]: everything that is
// wrong, in all the files.
//
// The keys stay as they are until [Store.Reload], or an edit by this Store; [Store.Watch] follows
// the files.
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
	if k := s.current.Load().find(h); k != nil {
		return k, nil
	}
	return nil, keystore.ErrNotFound
}

// Len returns how many keys there are.
func (s *Store) Len() int { return s.current.Load().len() }

// Count implements [keystore.Counter].
func (s *Store) Count(_ context.Context, now time.Time) (keystore.Counts, error) {
	var c keystore.Counts
	pause := newThrottle(time.Minute)
	for h, k := range s.current.Load().all() {
		pause()
		if h == k.Hash {
			c.Add(k, now)
		}
	}
	return c, nil
}

// Warnings returns what is valid in the files but probably a mistake, as of the last reload that
// succeeded.
func (s *Store) Warnings() strictyaml.Errors { return s.current.Load().warnings }

// Reload reads the files again. If that fails, the keys stay as they were. Its error is as that of
// [Open].
func (s *Store) Reload() error { return s.reload(true) }

// reload reads the files again. Unless always is set, it does nothing if they have the same text as
// before.
func (s *Store) reload(always bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	start, before, unreadable := time.Now(), s.Len(), s.unreadable
	isNew, err := s.load(always)
	if (isNew || s.unreadable) && s.opts.OnReload != nil {
		s.opts.OnReload(Reload{
			Err: err, Repeated: !always && unreadable && s.unreadable,
			Before: before, Keys: s.Len(), Warnings: s.Warnings(), Duration: time.Since(start),
		})
	}
	return err
}

// releaseKeys is the number of keys from which the first load returns unused memory to the system at
// once.
const releaseKeys = 10_000

// load reads the files, and reports whether their text is new, or always is set.
func (s *Store) load(always bool) (isNew bool, err error) {
	before, pause := s.current.Load(), newThrottle(maxRest)
	first := before == nil
	if first {
		before, pause = &snapshot{}, noThrottle
	}
	parsed, err := readFiles(s.path, func(path string, in io.Reader) (parsedFile, error) {
		return parseFile(path, in, before.chunks, pause)
	})
	sum := sumOf(parsed, err)
	isNew = always || sum != s.sum
	s.sum, s.unreadable = sum, err != nil
	if err != nil || !isNew {
		return isNew, err
	}
	next, err := newSnapshot(parsed, before, pause)
	if err != nil {
		return true, err
	}
	s.current.Store(next)
	if first && next.len() >= releaseKeys {
		debug.FreeOSMemory()
	}
	return true, nil
}

// sumOf returns a hash of all that was read.
func sumOf(parsed []parsedFile, err error) (sum [sha256.Size]byte) {
	h := sha256.New()
	fmt.Fprintln(h, err)
	for _, f := range parsed {
		fmt.Fprintln(h, f.path)
		for _, c := range f.chunks {
			h.Write(c.sum[:])
		}
	}
	h.Sum(sum[:0])
	return sum
}

// Watch reloads the store when its files change, within a second, until ctx ends; it returns
// ctx's error. [files.Watcher] says which changes it notices. A reload that fails leaves the keys
// as they are; it is tried again when the files change further, and, if they could not be read,
// twice a second until they can be. inv may be nil: the store itself caches nothing.
func (s *Store) Watch(ctx context.Context, inv keystore.Invalidator) error {
	published := s.current.Load()
	if inv != nil {
		inv.InvalidateAll() // what changed before is not known
	}
	publish := func() {
		if now := s.current.Load(); now != published && inv != nil {
			inv.InvalidateAll() // lookups cost nothing, so that it does not matter which
			published = now
		}
	}
	w := files.Watcher{
		Path: s.path, List: func() ([]string, error) { return keyFiles(s.path) },
		OnChange:  func() { _ = s.reload(false); publish() }, // OnReload reports its error
		OnPoll:    func() bool { publish(); return s.isUnreadable() },
		OnPolling: s.opts.OnPolling, PollOnly: s.opts.pollOnly,
	}
	return w.Run(ctx)
}

// isUnreadable reports whether the files could not be read.
func (s *Store) isUnreadable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unreadable
}
