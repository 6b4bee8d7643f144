package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

const (
	quietTime    = 100 * time.Millisecond // how long nothing must change before a change is reported
	maxDelay     = 400 * time.Millisecond // how long a report is delayed for that at most
	pollInterval = 500 * time.Millisecond
)

// A Watcher detects changes of a file or of the files in a folder: writes, renames, changed links,
// files that are added or removed, and a folder that is replaced. It gets notifications from the
// system, and also polls twice a second for changes without a notification. A poll compares inodes,
// sizes, and times of modification and of status change. A change that a file system shows in none
// of these is not detected.
type Watcher struct {
	Path string

	// List returns the files at Path as they are now.
	List func() ([]string, error)

	// OnChange is called first when Run begins, and then at most a second after each change, once
	// nothing has changed for a moment.
	OnChange func()

	// OnPoll is called at each poll, and reports whether to call OnChange even without a change.
	OnPoll func() bool

	// OnPolling, if non-nil, is called when there will be no notification of some changes, so that
	// only polling finds them.
	OnPolling func(error)

	// PollOnly makes it only poll, as on a system without notifications.
	PollOnly bool

	notifier *fsnotify.Watcher // nil if the system has none
	dirs     map[string]string // the folders that are watched, with their identities
	stamp    string            // of the files at the last check
	polling  bool              // there are no notifications of some changes
}

// Run watches until ctx ends, and returns ctx's error.
func (w *Watcher) Run(ctx context.Context) error {
	w.dirs = make(map[string]string)
	w.watchDirs()
	defer w.close()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	report := time.NewTimer(0)
	defer report.Stop()
	var since time.Time // of the first change that is not reported yet
	for {
		var events <-chan fsnotify.Event
		var lost <-chan error
		if w.notifier != nil {
			events, lost = w.notifier.Events, w.notifier.Errors
		}
		changed := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-events:
			changed = w.concerns(e)
		case <-lost: //nolint:errcheck // events were lost: the next poll finds what changed
		case <-poll.C:
			w.watchDirs()
			if changed = w.changed(); w.OnPoll() && !changed {
				w.OnChange()
			}
		case <-report.C:
			since = time.Time{}
			w.changed()
			w.OnChange()
			w.watchDirs()
		}
		if changed {
			if since.IsZero() {
				since = time.Now()
			}
			report.Reset(min(quietTime, max(0, maxDelay-time.Since(since))))
		}
	}
}

func (w *Watcher) close() {
	if w.notifier != nil {
		_ = w.notifier.Close()
	}
}

// changed reports whether the files have changed since it was last called.
func (w *Watcher) changed() bool {
	before := w.stamp
	w.stamp = w.takeStamp()
	return w.stamp != before
}

// concerns reports whether an event may be about the files.
func (w *Watcher) concerns(e fsnotify.Event) bool {
	paths, _ := w.List()
	named := e.Op != fsnotify.Chmod && slices.ContainsFunc(append(paths, w.Path), func(p string) bool {
		return filepath.Base(p) == filepath.Base(e.Name)
	})
	return w.changed() || named // any other may be a folder or a link on the way to them
}

// watchDirs watches the folders of the files, of their links, and of the links' targets.
func (w *Watcher) watchDirs() {
	if w.notifier == nil {
		if w.PollOnly {
			return
		}
		var err error
		if w.notifier, err = fsnotify.NewWatcher(); err != nil {
			w.notifier = nil
			w.report(err)
			return
		}
	}
	want := map[string]bool{filepath.Dir(w.Path): true}
	if info, err := os.Stat(w.Path); err == nil && info.IsDir() {
		want[w.Path] = true
	}
	paths, _ := w.List()
	for _, p := range append(paths, w.Path) {
		if resolved, err := filepath.EvalSymlinks(p); err == nil {
			want[filepath.Dir(resolved)] = true
		}
	}
	for dir, id := range w.dirs {
		// The system watches a folder, not its name: another one may have that now.
		if !want[dir] || identity(dir) != id {
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
	w.report(failed)
}

// report calls OnPolling with err, the reason why there are no notifications of some changes, unless
// there was one the last time too. A nil err means that there are notifications of all changes.
func (w *Watcher) report(err error) {
	if err != nil && !w.polling && w.OnPolling != nil {
		w.OnPolling(err)
	}
	w.polling = err != nil
}

// takeStamp returns a string that changes when the files change, except for two writes of the same
// length within one tick of the file system's clock.
func (w *Watcher) takeStamp() string {
	var b strings.Builder
	paths, err := w.List()
	fmt.Fprintln(&b, identity(w.Path), err)
	for _, p := range paths {
		fmt.Fprintln(&b, p, Stamp(p))
	}
	return b.String()
}

// identity returns a string that identifies the file or folder.
func identity(path string) string {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return "none"
	}
	return fmt.Sprint(s.Dev, s.Ino)
}

// Stamp returns a string that changes when the file at path is changed or replaced, except for two
// writes of the same length within one tick of the file system's clock.
func Stamp(path string) string {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return "none: " + err.Error()
	}
	return fmt.Sprintf("%d:%d %d %d %d", s.Dev, s.Ino, s.Size, s.Mtim.Nano(), s.Ctim.Nano())
}
