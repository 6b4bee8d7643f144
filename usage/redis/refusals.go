package redis

import (
	"context"
	"slices"
	"time"

	"github.com/redis/rueidis"

	"extauthz/usage"
)

// Refusals implements [usage.Store].
func (s *Store) Refusals(ctx context.Context, since time.Time, limit int) ([]usage.Row, error) {
	members, err := s.client.Do(ctx, func(ctx context.Context, client rueidis.Client) rueidis.RedisResult {
		return client.Do(ctx, client.B().Zrevrangebyscore().Key(s.refusalsName()).Max("+inf").Min(micros(since)).Limit(0, int64(limit)).Build())
	}).AsStrSlice()
	if err != nil {
		return nil, s.failure(err)
	}
	if len(members) == 0 {
		return nil, nil
	}
	names := make([]rowName, len(members))
	for i, m := range members {
		if names[i], err = parseRowName(m); err != nil {
			return nil, s.failure(err)
		}
	}
	replies, err := s.doMulti(ctx, func(b rueidis.Builder) []rueidis.Completed {
		commands := make([]rueidis.Completed, len(names))
		for i, n := range names {
			commands[i] = b.Hget().Key(s.networksName(n.id)).Field(n.network).Build()
		}
		return commands
	})
	if err != nil {
		return nil, err
	}
	var refusals []usage.Row
	for i, n := range names {
		value, err := replies[i].ToString()
		if rueidis.IsRedisNil(err) {
			continue // dropped in the meantime
		}
		rows, err := parseRows(n.id, n.network, value)
		if err != nil {
			return nil, s.failure(err)
		}
		if j := slices.IndexFunc(rows, func(r usage.Row) bool { return r.Day == n.day }); j >= 0 {
			refusals = append(refusals, rows[j])
		}
	}
	return refusals, nil
}
