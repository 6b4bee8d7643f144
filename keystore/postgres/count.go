package postgres

import (
	"context"
	"time"

	"extauthz/keystore"
)

// countKeys uses the partial indexes keys_report and keys_expires, and no table scan.
const countKeys = `SELECT
	(SELECT count(*) FROM extauthz.keys WHERE ip_whitelist_mode = 'report' AND ip_whitelist IS NOT NULL),
	(SELECT count(*) FROM extauthz.keys WHERE expires IS NOT NULL AND expires >= $1 AND expires <= $2),
	(SELECT count(*) FROM extauthz.keys WHERE expires IS NOT NULL AND expires >= $1 AND expires <= $3)`

// Count implements [keystore.Counter].
func (s *Store) Count(ctx context.Context, now time.Time) (keystore.Counts, error) {
	var c keystore.Counts
	err := s.pool.QueryRow(ctx, countKeys, now, now.Add(keystore.Week), now.Add(keystore.Month)).Scan(&c.Report, &c.ExpiringWeek, &c.ExpiringMonth)
	if err != nil {
		return keystore.Counts{}, s.conn.failure(err)
	}
	return c, nil
}
