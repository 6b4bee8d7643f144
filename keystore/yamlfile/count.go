package yamlfile

import (
	"context"
	"time"

	"extauthz/keystore"
)

var _ keystore.Counter = (*Store)(nil)

// Count implements [keystore.Counter].
func (s *Store) Count(_ context.Context, now time.Time) (keystore.Counts, error) {
	var c keystore.Counts
	for h, k := range s.current.Load().all() {
		if h == k.Hash {
			c.Add(k, now)
		}
	}
	return c, nil
}
