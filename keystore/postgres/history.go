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
	var converted json.RawMessage
	var err error
	switch field {
	case "ip_whitelist":
		converted, err = convert(value, func(entries *[]string) {
			for i, e := range *entries {
				if p, err := keystore.ParseWhitelistEntry(e); err == nil {
					(*entries)[i] = keystore.FormatWhitelistEntry(p)
				}
			}
		})
	case "expires":
		converted, err = convert(value, func(t *time.Time) { *t = t.UTC() })
	case "previous":
		converted, err = convert(value, func(p *struct {
			Until time.Time `json:"until"`
		},
		) {
			p.Until = p.Until.UTC()
		})
	case "ratelimits":
		var limits []keystore.Ratelimit
		if limits, err = keystore.DecodeRatelimits(value); err == nil {
			converted, err = keystore.EncodeRatelimits(limits)
		}
	default:
		var compact bytes.Buffer
		err = json.Compact(&compact, value)
		converted = compact.Bytes()
	}
	if err != nil || len(value) == 0 {
		return value
	}
	return converted
}

// convert decodes a value, changes it, and encodes it again.
func convert[T any](value json.RawMessage, change func(*T)) (json.RawMessage, error) {
	var v T
	if err := json.Unmarshal(value, &v); err != nil {
		return nil, err
	}
	change(&v)
	return json.Marshal(v)
}
