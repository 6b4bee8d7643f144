package redis

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/redis/rueidis"

	"extauthz/usage"
)

func (s *Store) serversName() string { return s.prefix + "servers" }

// ReportServer implements [usage.Store].
func (s *Store) ReportServer(ctx context.Context, r usage.ServerReport) error {
	all, err := s.servers(ctx)
	if err != nil {
		return err
	}
	var gone []string
	for _, other := range all {
		if s.now().Sub(other.Time) > usage.ForgetServersAfter {
			gone = append(gone, other.Name)
		}
	}
	value, err := json.Marshal(r)
	if err != nil {
		return s.failure(err)
	}
	replies, err := s.doMulti(ctx, func(b rueidis.Builder) []rueidis.Completed {
		commands := []rueidis.Completed{b.Hset().Key(s.serversName()).FieldValue().FieldValue(r.Name, string(value)).Build()}
		if len(gone) > 0 {
			commands = append(commands, b.Hdel().Key(s.serversName()).Field(gone...).Build())
		}
		return commands
	})
	if err != nil {
		return err
	}
	if err := replies[0].Error(); err != nil {
		return s.failure(err)
	}
	return nil
}

// Servers implements [usage.Store].
func (s *Store) Servers(ctx context.Context, since time.Time) ([]usage.ServerReport, error) {
	all, err := s.servers(ctx)
	return slices.DeleteFunc(all, func(r usage.ServerReport) bool { return r.Time.Before(since) }), err
}

func (s *Store) servers(ctx context.Context) ([]usage.ServerReport, error) {
	fields, err := s.client.Do(ctx, func(ctx context.Context, client rueidis.Client) rueidis.RedisResult {
		return client.Do(ctx, client.B().Hgetall().Key(s.serversName()).Build())
	}).AsStrMap()
	if err != nil {
		return nil, s.failure(err)
	}
	var reports []usage.ServerReport
	for _, value := range fields {
		var r usage.ServerReport
		if json.Unmarshal([]byte(value), &r) != nil {
			return nil, s.failure(errBadRecord)
		}
		reports = append(reports, r)
	}
	slices.SortFunc(reports, func(a, b usage.ServerReport) int { return cmp.Compare(a.Name, b.Name) })
	return reports, nil
}
