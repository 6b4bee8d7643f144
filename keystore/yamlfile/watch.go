package yamlfile

import (
	"context"

	"extauthz/files"
	"extauthz/keystore"
)

var _ keystore.Watcher = (*Store)(nil)

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
			inv.InvalidateAll() // look-ups cost nothing, so that it does not matter which
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
