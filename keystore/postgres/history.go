package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"extauthz/audit"
	"extauthz/keystore"
)

var _ audit.Editor = (*Store)(nil)

const selectHistory = `SELECT time, actor, database_user, key_id, action, changes FROM extauthz.audit WHERE key_id = $1 ORDER BY seq DESC LIMIT $2`

// History implements [audit.Trail]. It also has edits that were made in SQL.
func (s *Store) History(ctx context.Context, keyID string, limit int) ([]audit.Edit, error) {
	rows, err := s.pool.Query(ctx, selectHistory, keyID, min(max(limit, 0), audit.MaxHistory))
	if err != nil {
		return nil, s.conn.failure(err)
	}
	edits, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (audit.Edit, error) {
		var e audit.Edit
		var changes []byte
		if err := row.Scan(&e.Time, &e.Actor, &e.DatabaseUser, &e.KeyID, &e.Action, &changes); err != nil {
			return e, err
		}
		e.Time = e.Time.UTC()
		if len(changes) > 0 {
			if err := json.Unmarshal(changes, &e.Changes); err != nil {
				return e, err
			}
		}
		for i := range e.Changes {
			c := &e.Changes[i]
			c.Before, c.After = asInKeyFile(c.Field, c.Before), asInKeyFile(c.Field, c.After)
		}
		return e, nil
	})
	return edits, s.conn.failure(err)
}

// asInKeyFile returns a value of the trail as a key file has it: addresses without /32, times in UTC.
// What cannot be read stays as it is.
func asInKeyFile(field string, value json.RawMessage) json.RawMessage {
	if len(value) == 0 {
		return nil
	}
	var v any
	switch field {
	case "ip_whitelist":
		var entries []string
		if json.Unmarshal(value, &entries) != nil {
			return value
		}
		for i, e := range entries {
			if p, err := keystore.ParseWhitelistEntry(e); err == nil {
				entries[i] = keystore.FormatWhitelistEntry(p)
			}
		}
		v = entries
	case "expires":
		var t time.Time
		if json.Unmarshal(value, &t) != nil {
			return value
		}
		v = t.UTC()
	case "previous":
		var p struct {
			Until time.Time `json:"until"`
		}
		if json.Unmarshal(value, &p) != nil {
			return value
		}
		p.Until = p.Until.UTC()
		v = p
	case "ratelimits":
		limits, err := keystore.DecodeRatelimits(value)
		if err != nil {
			return value
		}
		if encoded, err := keystore.EncodeRatelimits(limits); err == nil {
			return encoded
		}
		return value
	default:
		var compact bytes.Buffer
		if json.Compact(&compact, value) == nil {
			return compact.Bytes()
		}
		return value
	}
	b, err := json.Marshal(v)
	if err != nil {
		return value
	}
	return b
}
