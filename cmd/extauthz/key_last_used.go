package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"extauthz/backend"
	"extauthz/config"
	"extauthz/keystore"
	"extauthz/usage"
)

// openRecorded opens the store of usage if the configuration records it, and returns nil otherwise.
func openRecorded(ctx context.Context, cfg *config.Config) (usage.Store, error) {
	if !cfg.Usage.Record {
		return nil, nil //nolint:nilnil // nothing is recorded, which is no error
	}
	s, err := backend.OpenUsage(ctx, cfg)
	if errors.Is(err, backend.ErrNoUsage) {
		return nil, nil //nolint:nilnil // as above
	}
	return s, err
}

// lastUses returns when keys were last used, for keys queried in the order of their ids. The caller
// must stop it.
type lastUses struct {
	next    func() (*usage.Summary, error, bool)
	stop    func()
	current *usage.Summary
}

func newLastUses(ctx context.Context, s usage.Store) *lastUses {
	l := &lastUses{}
	l.next, l.stop = iter.Pull2(s.Summaries(ctx, ""))
	return l
}

// of returns the zero Time for a key without recorded use.
func (l *lastUses) of(id string) (time.Time, error) {
	for l.current == nil || l.current.KeyID < id {
		s, err, ok := l.next()
		switch {
		case err != nil:
			return time.Time{}, err
		case !ok:
			return time.Time{}, nil
		}
		l.current = s
	}
	if l.current.KeyID != id {
		return time.Time{}, nil
	}
	return l.current.LastUsed, nil
}

// withLastUsed adds the time of a key's last use to its JSON.
func withLastUsed(object []byte, last time.Time) []byte {
	if last.IsZero() || len(object) < 2 {
		return object
	}
	return fmt.Appendf(object[:len(object)-1], `,"last_used":%q}`, moment(last))
}

func orNever(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return moment(t)
}

// lastUseOf returns the recorded use of one key, or nil if usage is not recorded.
func lastUseOf(ctx context.Context, cfg *config.Config, k *keystore.Key) (*usage.KeyUsage, error) {
	s, err := openRecorded(ctx, cfg)
	if s == nil || err != nil {
		return nil, err
	}
	defer s.Close() // only read
	return s.Key(ctx, k.ID, time.Now())
}
