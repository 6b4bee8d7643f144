package redis

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"extauthz/audit"
	"extauthz/keystore"
)

var _ audit.Editor = (*Store)(nil)

// historyPage is how many edits are read in one round trip.
const historyPage = 2000

// newEdit returns what the trail says of an edit, or "" if nothing changes.
func newEdit(ctx context.Context, before, after *keystore.Key) (string, error) {
	e := audit.New(ctx, before, after, time.Now())
	if e.Action == audit.Change && len(e.Changes) == 0 {
		return "", nil
	}
	line, err := audit.Record{Edit: e}.Line()
	if err != nil {
		return "", fmt.Errorf("redis: the audit record of key %s: %w", e.KeyID, err)
	}
	return string(line), nil
}

// bulkEdit returns the start of what the trail says of keys that were added together, up to the list
// of their ids.
func bulkEdit(ctx context.Context, one *keystore.Key) (string, error) {
	records := audit.Bulk(audit.New(ctx, nil, one, time.Now()), []string{one.ID})
	line, err := records[0].Line()
	if err != nil {
		return "", fmt.Errorf("redis: the audit record of an import: %w", err)
	}
	return strings.TrimSuffix(string(line), `["`+one.ID+`"]}`), nil
}

// History implements [audit.Trail]. It reads the trail backwards, 2,000 edits of all keys in a round
// trip. It does not have edits that were made without extauthz, such as by redis-cli.
func (s *Store) History(ctx context.Context, keyID string, limit int) ([]audit.Edit, error) {
	limit = min(limit, audit.MaxHistory)
	var edits []audit.Edit
	end := "+"
	for len(edits) < limit {
		page, err := s.client.Do(ctx, func(ctx context.Context, client rueidis.Client) rueidis.RedisResult {
			return client.Do(ctx, client.B().Xrevrange().Key(s.names.audit).End(end).Start("-").Count(historyPage).Build())
		}).AsXRange()
		if err != nil {
			return nil, fmt.Errorf("redis: %w", err)
		}
		for _, entry := range page {
			end = "(" + entry.ID
			if e, ok := audit.Find([]byte(entry.FieldValues["edit"]), keyID); ok && len(edits) < limit {
				edits = append(edits, e)
			}
		}
		if len(page) < historyPage {
			break
		}
	}
	return edits, nil
}
