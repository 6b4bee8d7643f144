// Package postgres stores usage in the PostgreSQL database of the keys. The migrations of
// keystore/postgres create the tables. A server that records usage needs
//
//	GRANT USAGE ON SCHEMA extauthz TO …;
//	GRANT SELECT, INSERT, UPDATE ON extauthz.usage, extauthz.usage_keys, extauthz.servers TO …;
package postgres

import (
	"cmp"
	"context"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"extauthz/usage"
)

const (
	keysAtOnce = 2000 // that one transaction adds, or one query lists
	pruneEvery = time.Hour
)

// A Store is a [usage.Store] in a database. Create one with [New].
type Store struct {
	pool    *pgxpool.Pool
	failure func(error) error
	limits  usage.Limits

	mu     sync.Mutex
	pruned time.Time // guarded by mu
}

// New returns a store that uses the pool, and closes it in Close. It passes errors through failure,
// which must remove secrets from them, and return nil for nil.
func New(pool *pgxpool.Pool, failure func(error) error, limits usage.Limits) *Store {
	return &Store{pool: pool, failure: failure, limits: limits}
}

// Close closes the pool.
func (s *Store) Close() error { s.pool.Close(); return nil }

// Add implements [usage.Store].
func (s *Store) Add(ctx context.Context, b *usage.Batch) error {
	// Keep the order of the keys, so that concurrent replicas wait for each other and do not
	// deadlock.
	slices.SortFunc(b.Summaries, func(a, b usage.Summary) int { return strings.Compare(a.KeyID, b.KeyID) })
	slices.SortFunc(b.Rows, func(a, b usage.Row) int {
		return cmp.Or(strings.Compare(a.KeyID, b.KeyID), a.Network.Compare(b.Network), cmp.Compare(a.Day, b.Day))
	})
	for len(b.Summaries) > 0 {
		n := min(keysAtOnce, len(b.Summaries))
		last := b.Summaries[n-1].KeyID
		rows, _ := slices.BinarySearchFunc(b.Rows, last, func(r usage.Row, id string) int {
			if r.KeyID <= id {
				return -1
			}
			return 1
		})
		if err := s.add(ctx, b.Summaries[:n], b.Rows[:rows]); err != nil {
			return s.failure(err)
		}
		b.Summaries, b.Rows = b.Summaries[n:], b.Rows[rows:]
	}
	b.Rows = nil
	return s.failure(s.prune(ctx))
}

// add writes the summaries, which lock their keys against other replicas, and then the rows.
func (s *Store) add(ctx context.Context, summaries []usage.Summary, rows []usage.Row) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, mergeSummaries, summaryColumns(summaries)...); err != nil {
			return err
		}
		if len(rows) == 0 {
			return nil
		}
		result, err := tx.Query(ctx, mergeRows, rowColumns(rows)...)
		if err != nil {
			return err
		}
		grown, err := pgx.CollectRows(result, pgx.RowTo[string])
		grown = slices.DeleteFunc(slices.Compact(grown), func(id string) bool { return id == "" })
		if err != nil || len(grown) == 0 {
			return err
		}
		_, err = tx.Exec(ctx, `SELECT extauthz.trim_usage($1, $2)`, grown, s.limits.AddressesPerKey)
		return err
	})
}

// prune removes old rows from time to time.
func (s *Store) prune(ctx context.Context) error {
	s.mu.Lock()
	due := time.Since(s.pruned) >= pruneEvery
	if due {
		s.pruned = time.Now()
	}
	s.mu.Unlock()
	if !due {
		return nil
	}
	_, err := s.pool.Exec(ctx, `SELECT extauthz.prune_usage($1)`, s.limits.Retention)
	return err
}

// Key implements [usage.Store].
func (s *Store) Key(ctx context.Context, id string, since time.Time) (*usage.KeyUsage, error) {
	u := &usage.KeyUsage{Summary: usage.Summary{KeyID: id}}
	summaries, err := collect(ctx, s.pool, scanSummary, selectSummaries+` WHERE key_id = $1`, id)
	if err != nil {
		return nil, s.failure(err)
	}
	if len(summaries) == 1 {
		u.Summary = summaries[0]
	}
	if u.Rows, err = collect(ctx, s.pool, scanRow, selectRows+` WHERE key_id = $1 AND last_seen >= $2`, id, timestamp(since)); err != nil {
		return nil, s.failure(err)
	}
	usage.SortRows(u.Rows)
	return u, nil
}

// Summaries implements [usage.Store].
func (s *Store) Summaries(ctx context.Context, after string) iter.Seq2[*usage.Summary, error] {
	return func(yield func(*usage.Summary, error) bool) {
		for {
			page, err := collect(ctx, s.pool, scanSummary, selectSummaries+` WHERE key_id > $1 ORDER BY key_id LIMIT $2`, after, keysAtOnce)
			if err != nil {
				yield(nil, s.failure(err))
				return
			}
			for i := range page {
				if !yield(&page[i], nil) {
					return
				}
			}
			if len(page) < keysAtOnce {
				return
			}
			after = page[len(page)-1].KeyID
		}
	}
}

// SummariesOf implements [usage.Store].
func (s *Store) SummariesOf(ctx context.Context, ids []string) (map[string]*usage.Summary, error) {
	found, err := collect(ctx, s.pool, scanSummary, selectSummaries+` WHERE key_id = ANY ($1)`, ids)
	if err != nil {
		return nil, s.failure(err)
	}
	summaries := make(map[string]*usage.Summary, len(found))
	for i := range found {
		if !found[i].LastUsed.IsZero() {
			summaries[found[i].KeyID] = &found[i]
		}
	}
	return summaries, nil
}

// Sharers implements [usage.Store].
func (s *Store) Sharers(ctx context.Context, networks []netip.Prefix, since time.Time) (map[netip.Prefix][]string, error) {
	type use struct {
		network netip.Prefix
		keyID   string
	}
	uses, err := collect(ctx, s.pool, func(row pgx.CollectableRow) (u use, err error) {
		return u, row.Scan(&u.network, &u.keyID)
	}, `SELECT DISTINCT network, key_id FROM extauthz.usage WHERE network = ANY ($1) AND last_seen >= $2 AND allowed > 0 ORDER BY key_id`,
		networks, timestamp(since))
	if err != nil {
		return nil, s.failure(err)
	}
	sharers := make(map[netip.Prefix][]string)
	for _, u := range uses {
		sharers[u.network] = append(sharers[u.network], u.keyID)
	}
	return sharers, nil
}

// Refusals implements [usage.Store].
func (s *Store) Refusals(ctx context.Context, since time.Time, limit int) ([]usage.Row, error) {
	rows, err := collect(ctx, s.pool, scanRow, selectRows+` WHERE day >= ($1::timestamptz AT TIME ZONE 'UTC')::date AND last_seen >= $1
		AND `+refusedTotal+` > 0 ORDER BY last_seen DESC, key_id, network LIMIT $2`, timestamp(since), limit)
	return rows, s.failure(err)
}

func collect[T any](ctx context.Context, pool *pgxpool.Pool, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}
