package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"extauthz/usage"
)

// ReportServer implements [usage.Store]. Reports of servers that are gone leave with old rows.
func (s *Store) ReportServer(ctx context.Context, r usage.ServerReport) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO extauthz.servers (name, version, channel_up, reported) VALUES ($1, $2, $3, $4)
		ON CONFLICT (name) DO UPDATE SET version = excluded.version, channel_up = excluded.channel_up, reported = excluded.reported`,
		r.Name, r.Version, r.ChannelUp, r.Time)
	return s.failure(err)
}

// Servers implements [usage.Store].
func (s *Store) Servers(ctx context.Context, since time.Time) ([]usage.ServerReport, error) {
	reports, err := collect(ctx, s.pool, func(row pgx.CollectableRow) (r usage.ServerReport, err error) {
		err = row.Scan(&r.Name, &r.Version, &r.ChannelUp, &r.Time)
		r.Time = r.Time.UTC()
		return r, err
	}, `SELECT name, version, channel_up, reported FROM extauthz.servers WHERE reported >= $1 ORDER BY name`, timestamp(since))
	return reports, s.failure(err)
}
