package yamlfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"extauthz/keystore"
)

const (
	quiet    = 100 * time.Millisecond // how long nothing must have changed before a reload
	patience = 400 * time.Millisecond // how long a reload waits for that at most
	interval = 500 * time.Millisecond // between looks at the files themselves
)

var _ keystore.Watcher = (*Store)(nil)

// Watch reloads the store whenever its files change, within a second, until ctx ends; it
// returns ctx's error. It sees writes, renames, links that lead elsewhere, files that come and
// go in a folder, and a folder that is replaced. A reload that fails leaves the keys as they
// are, and is tried again when the files change further, or, if they could not be read, twice
// a second until they can be.
//
// inv may be nil: nothing that this store has told needs to be forgotten but by what stands in
// front of it. Watch also looks for changes twice a second, for what the system does not notify
// of: a change shows by a file's inode, size, and times of modification and of status change.
// Where the file system keeps none of these up to date, it goes unseen without a notification.
func (s *Store) Watch(ctx context.Context, inv keystore.Invalidator) error {
	w := newWatching(s)
	defer w.close()
	told := s.current.Load()
	if inv != nil {
		inv.InvalidateAll() // what changed before this is not known
	}
	poll := time.NewTicker(interval)
	defer poll.Stop()
	reload := time.NewTimer(0) // to see what changed since the keys were read
	defer reload.Stop()
	var since time.Time // of the first change that is not loaded yet
	for {
		changed := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-w.events:
			changed = w.concerns(e)
		case <-w.errors: //nolint:errcheck // it says only that events were lost
			// Some events were lost, say: the next look at the files shows what changed.
		case <-poll.C:
			w.follow()
			if changed = w.look(); !changed && s.isUnreadable() {
				_ = s.reload(false)
			}
		case <-reload.C:
			since = time.Time{}
			w.look()
			_ = s.reload(false) // whoever asked for it is told by OnReload
			w.follow()
		}
		if changed {
			if since.IsZero() {
				since = time.Now()
			}
			reload.Reset(min(quiet, max(0, patience-time.Since(since))))
		}
		if now := s.current.Load(); now != told {
			invalidate(inv, told, now)
			told = now
		}
	}
}

// invalidate tells of the keys that differ between two sets.
func invalidate(inv keystore.Invalidator, before, after *set) {
	if inv == nil {
		return
	}
	for h, k := range after.index.all() {
		if before.index.find(h) != k {
			inv.Invalidate(h)
		}
	}
	for h := range before.index.all() {
		if after.index.find(h) == nil {
			inv.Invalidate(h)
		}
	}
}

// watching is what one call of Watch keeps.
type watching struct {
	path     string
	opts     Options
	notifier *fsnotify.Watcher // nil where the system has none to give, as events and errors
	events   <-chan fsnotify.Event
	errors   <-chan error
	dirs     map[string]string // the folders that are watched, and which ones they are
	seen     string            // the files' stamp at the last look
	polling  bool              // some changes come without a notification
}

func newWatching(s *Store) *watching {
	w := &watching{path: s.path, opts: s.opts, dirs: make(map[string]string), seen: s.stampRead()}
	w.follow()
	return w
}

func (w *watching) close() {
	if w.notifier != nil {
		_ = w.notifier.Close()
	}
}

// look reports whether the files are other ones than at the last look.
func (w *watching) look() bool {
	stamp := stamp(w.path)
	changed := stamp != w.seen
	w.seen = stamp
	return changed
}

// concerns reports whether an event may be about the key files.
func (w *watching) concerns(e fsnotify.Event) bool {
	name := filepath.Base(e.Name)
	named := e.Op != fsnotify.Chmod && (isKeyFile(name) || name == filepath.Base(w.path))
	// Any other may be a folder or a link on the way to them.
	return w.look() || named
}

// follow watches the folders that the files are in, by their names and where links lead.
func (w *watching) follow() {
	if w.notifier == nil {
		if w.opts.pollAlone {
			return
		}
		notifier, err := fsnotify.NewWatcher()
		if w.pollingFor(err); err != nil {
			return
		}
		w.notifier, w.events, w.errors = notifier, notifier.Events, notifier.Errors
	}
	want := map[string]bool{filepath.Dir(w.path): true}
	if info, err := os.Stat(w.path); err == nil && info.IsDir() {
		want[w.path] = true
	}
	paths, _ := files(w.path)
	for _, p := range append(paths, w.path) {
		if resolved, err := filepath.EvalSymlinks(p); err == nil {
			want[filepath.Dir(resolved)] = true
		}
	}
	for dir, was := range w.dirs {
		// The system watches the folder, not its name: another one may have that now.
		if !want[dir] || identity(dir) != was {
			_ = w.notifier.Remove(dir)
			delete(w.dirs, dir)
		}
	}
	var failed error
	for dir := range want {
		if _, ok := w.dirs[dir]; ok {
			continue
		}
		if err := w.notifier.Add(dir); err == nil {
			w.dirs[dir] = identity(dir)
		} else if !errors.Is(err, fs.ErrNotExist) {
			failed = fmt.Errorf("%s: %w", dir, err)
		}
	}
	w.pollingFor(failed)
}

// pollingFor reports err, for which changes are found by polling alone, unless there was one the
// last time too. If err is nil, notifications come.
func (w *watching) pollingFor(err error) {
	if err != nil && !w.polling && w.opts.OnPolling != nil {
		w.opts.OnPolling(err)
	}
	w.polling = err != nil
}

// stamp returns a text that differs when the files at path have changed, unless two writes of
// the same length were within one tick of the file system's clock.
func stamp(path string) string {
	var b strings.Builder
	paths, err := files(path)
	fmt.Fprintln(&b, identity(path), err)
	for _, p := range paths {
		b.WriteString(p + " " + identity(p))
		var s unix.Stat_t
		if err := unix.Stat(p, &s); err == nil {
			fmt.Fprintln(&b, s.Size, s.Mtim.Nano(), s.Ctim.Nano())
		}
	}
	return b.String()
}

// identity returns which file or folder path leads to.
func identity(path string) string {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return "none "
	}
	return fmt.Sprintf("%d:%d ", s.Dev, s.Ino)
}
