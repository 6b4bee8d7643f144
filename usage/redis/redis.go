// Package redis stores usage in Redis or Valkey. Entries older than the retention expire.
package redis

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"extauthz/redisclient"
	"extauthz/usage"
)

// A Store is a [usage.Store] in Redis. Create one with [New].
//
// It is in one slot of a cluster, in entries whose names begin with the prefix: a hash of networks
// and a summary for each key, the sorted set of their ids, and that of the refusals of the last
// days.
type Store struct {
	client *redisclient.Client
	prefix string
	limits usage.Limits
	now    func() time.Time
}

//go:embed add.lua
var addSource string

var addScript = rueidis.NewLuaScript(addSource)

// New returns a store that uses the client, and closes it in Close. The names of all entries
// begin with the prefix, which contains a hash tag, such as {extauthz}:usage:.
func New(client *redisclient.Client, prefix string, limits usage.Limits) *Store {
	return &Store{client: client, prefix: prefix, limits: limits, now: time.Now}
}

// Close closes the connection.
func (s *Store) Close() error { s.client.Close(); return nil }

func (s *Store) networksName(id string) string { return s.prefix + "networks:" + id }
func (s *Store) lastName(id string) string     { return s.prefix + "last:" + id }
func (s *Store) summaryName(id string) string  { return s.prefix + "summary:" + id }
func (s *Store) idsName() string               { return s.prefix + "ids" }
func (s *Store) refusalsName() string          { return s.prefix + "refusals" }

const (
	keysAtOnce  = 256    // keys whose counts are sent or read at once
	maxRefusals = 100000 // refusals that are stored
)

// Add implements [usage.Store]. Each key is added atomically.
func (s *Store) Add(ctx context.Context, b *usage.Batch) error {
	rows := make(map[string][]int)
	for i := range b.Rows {
		rows[b.Rows[i].KeyID] = append(rows[b.Rows[i].KeyID], i)
	}
	added := 0
	for added < len(b.Summaries) {
		next := b.Summaries[added:min(added+keysAtOnce, len(b.Summaries))]
		calls := make([]rueidis.LuaExec, len(next))
		for i := range next {
			calls[i] = s.call(&next[i], b.Rows, rows[next[i].KeyID])
		}
		if err := s.exec(ctx, calls); err != nil {
			b.Remove(added)
			return fmt.Errorf("usage: redis: %w", err)
		}
		added += len(next)
	}
	b.Remove(added)
	if err := s.trimRefusals(ctx); err != nil {
		return fmt.Errorf("usage: redis: %w", err)
	}
	return nil
}

// exec runs the script once for each call.
func (s *Store) exec(ctx context.Context, calls []rueidis.LuaExec) error {
	return s.client.Do(ctx, func(ctx context.Context, client rueidis.Client) rueidis.RedisResult {
		results := addScript.ExecMulti(ctx, client, calls...)
		for _, r := range results {
			if r.Error() != nil {
				return r
			}
		}
		return results[0]
	}).Error()
}

func (s *Store) call(summary *usage.Summary, rows []usage.Row, of []int) rueidis.LuaExec {
	network := ""
	if summary.LastNetwork.IsValid() {
		network = summary.LastNetwork.String()
	}
	args := make([]string, 0, 9+len(of))
	args = append(
		args, summary.KeyID, micros(s.now()), strconv.FormatInt(s.limits.Retention.Microseconds(), 10), strconv.Itoa(s.limits.AddressesPerKey),
		micros(summary.LastUsed), network, micros(summary.LastCurrent), micros(summary.LastPrevious), micros(summary.Dropped),
	)
	for _, i := range of {
		args = append(args, rows[i].Network.String()+" "+formatEntry(&rows[i]))
	}
	id := summary.KeyID
	return rueidis.LuaExec{Keys: []string{s.networksName(id), s.lastName(id), s.summaryName(id), s.idsName(), s.refusalsName()}, Args: args}
}

// trimRefusals drops refusals that are older than the retention, and the oldest of too many.
func (s *Store) trimRefusals(ctx context.Context) error {
	oldest := micros(s.now().Add(-s.limits.Retention))
	return s.client.Do(ctx, func(ctx context.Context, client rueidis.Client) rueidis.RedisResult {
		results := client.DoMulti(
			ctx,
			client.B().Zremrangebyscore().Key(s.refusalsName()).Min("-inf").Max("("+oldest).Build(),
			client.B().Zremrangebyrank().Key(s.refusalsName()).Start(0).Stop(-maxRefusals-1).Build(),
		)
		if results[0].Error() != nil {
			return results[0]
		}
		return results[1]
	}).Error()
}

// Key implements [usage.Store].
func (s *Store) Key(ctx context.Context, id string, since time.Time) (*usage.KeyUsage, error) {
	u := &usage.KeyUsage{Summary: usage.Summary{KeyID: id}}
	replies, err := s.doMulti(ctx, func(b rueidis.Builder) []rueidis.Completed {
		return []rueidis.Completed{
			b.Hgetall().Key(s.networksName(id)).Build(), b.Hgetall().Key(s.summaryName(id)).Build(), b.Get().Key(s.lastName(id)).Build(),
		}
	})
	if err != nil {
		return nil, err
	}
	networks, err := replies[0].AsStrMap()
	if err != nil {
		return nil, s.failure(err)
	}
	oldest := s.now().Add(-s.limits.Retention)
	if err := readSummary(&u.Summary, oldest, replies[1], replies[2]); err != nil {
		return nil, s.failure(err)
	}
	for network, value := range networks {
		rows, err := parseRows(id, network, value)
		if err != nil {
			return nil, s.failure(err)
		}
		for _, r := range rows {
			if !r.Last.Before(since) && !r.Last.Before(oldest) {
				u.Rows = append(u.Rows, r)
			}
		}
	}
	usage.SortRows(u.Rows)
	return u, nil
}

// doMulti sends several commands at once and returns their replies.
func (s *Store) doMulti(ctx context.Context, commands func(rueidis.Builder) []rueidis.Completed) ([]rueidis.RedisResult, error) {
	replies := make(chan []rueidis.RedisResult, 1)
	err := s.client.Do(ctx, func(ctx context.Context, client rueidis.Client) rueidis.RedisResult {
		r := client.DoMulti(ctx, commands(client.B())...)
		replies <- r
		return r[0]
	}).NonRedisError()
	if err != nil {
		return nil, s.failure(err)
	}
	return <-replies, nil
}

func (s *Store) failure(err error) error { return fmt.Errorf("usage: redis: %w", err) }

// Summaries implements [usage.Store].
func (s *Store) Summaries(ctx context.Context, after string) iter.Seq2[*usage.Summary, error] {
	return func(yield func(*usage.Summary, error) bool) {
		for {
			ids, err := s.ids(ctx, after)
			if err != nil {
				yield(nil, err)
				return
			}
			if len(ids) == 0 {
				return
			}
			summaries, err := s.summaries(ctx, ids)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range summaries {
				if !yield(&summaries[i], nil) {
					return
				}
			}
			after = ids[len(ids)-1]
		}
	}
}

// ids returns some of the ids after the given one, in order.
func (s *Store) ids(ctx context.Context, after string) ([]string, error) {
	first := "-"
	if after != "" {
		first = "(" + after
	}
	ids, err := s.client.Do(ctx, func(ctx context.Context, client rueidis.Client) rueidis.RedisResult {
		return client.Do(ctx, client.B().Zrangebylex().Key(s.idsName()).Min(first).Max("+").Limit(0, keysAtOnce).Build())
	}).AsStrSlice()
	if err != nil {
		return nil, s.failure(err)
	}
	return ids, nil
}

// summaries returns the summaries of the ids that have not expired.
func (s *Store) summaries(ctx context.Context, ids []string) ([]usage.Summary, error) {
	replies, err := s.doMulti(ctx, func(b rueidis.Builder) []rueidis.Completed {
		commands := make([]rueidis.Completed, 0, 2*len(ids))
		for _, id := range ids {
			commands = append(commands, b.Hgetall().Key(s.summaryName(id)).Build(), b.Get().Key(s.lastName(id)).Build())
		}
		return commands
	})
	if err != nil {
		return nil, err
	}
	summaries, oldest := make([]usage.Summary, 0, len(ids)), s.now().Add(-s.limits.Retention)
	for i, id := range ids {
		summary := usage.Summary{KeyID: id}
		if err := readSummary(&summary, oldest, replies[2*i], replies[2*i+1]); err != nil {
			return nil, s.failure(err)
		}
		if !summary.LastUsed.IsZero() {
			summaries = append(summaries, summary)
		}
	}
	return summaries, nil
}

// SummariesOf implements [usage.Store].
func (s *Store) SummariesOf(ctx context.Context, ids []string) (map[string]*usage.Summary, error) {
	found := make(map[string]*usage.Summary, len(ids))
	for some := range slices.Chunk(ids, keysAtOnce) {
		summaries, err := s.summaries(ctx, some)
		if err != nil {
			return nil, err
		}
		for i := range summaries {
			found[summaries[i].KeyID] = &summaries[i]
		}
	}
	return found, nil
}

// Sharers implements [usage.Store]. It queries the networks of each key that was used.
func (s *Store) Sharers(ctx context.Context, networks []netip.Prefix, since time.Time) (map[netip.Prefix][]string, error) {
	sharers := make(map[netip.Prefix][]string)
	if len(networks) == 0 {
		return sharers, nil
	}
	names := make([]string, len(networks))
	for i, n := range networks {
		names[i] = n.String()
	}
	for after := ""; ; {
		ids, err := s.ids(ctx, after)
		if err != nil || len(ids) == 0 {
			return sharers, err
		}
		replies, err := s.doMulti(ctx, func(b rueidis.Builder) []rueidis.Completed {
			commands := make([]rueidis.Completed, len(ids))
			for i, id := range ids {
				commands[i] = b.Hmget().Key(s.networksName(id)).Field(names...).Build()
			}
			return commands
		})
		if err != nil {
			return nil, err
		}
		for i, id := range ids {
			values, err := replies[i].ToArray()
			if err != nil {
				return nil, s.failure(err)
			}
			for j := range values {
				if allowed, err := allowedSince(id, names[j], &values[j], since); err != nil {
					return nil, s.failure(err)
				} else if allowed {
					sharers[networks[j]] = append(sharers[networks[j]], id)
				}
			}
		}
		after = ids[len(ids)-1]
	}
}

// allowedSince reports whether a field of a hash of networks has requests that were allowed.
func allowedSince(id, network string, field *rueidis.RedisMessage, since time.Time) (bool, error) {
	value, err := field.ToString()
	if rueidis.IsRedisNil(err) {
		return false, nil
	}
	rows, err := parseRows(id, network, value)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(rows, func(r usage.Row) bool { return r.Allowed > 0 && !r.Last.Before(since) }), nil
}

var errBadRecord = errors.New("an entry cannot be read: another program or a newer version wrote it")
