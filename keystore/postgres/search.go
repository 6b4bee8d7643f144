package postgres

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5"

	"extauthz/keystore"
)

var _ keystore.Searcher = (*Store)(nil)

// Search implements [keystore.Searcher]. Each condition has an index.
func (s *Store) Search(ctx context.Context, q keystore.Query) (keys []*keystore.Key, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL enable_seqscan = off"); err != nil {
			return err
		}
		c := search{tx: tx, args: pgx.NamedArgs{
			"after": q.After, "limit": q.Limit, "expires_after": q.ExpiresAfter, "expires_before": q.ExpiresBefore,
			"ranges": rangesHolding(q.Address), "first": strings.ToLower(q.Text), "last": strings.ToLower(q.Text) + "\U0010FFFF",
		}}
		sql, err := c.query(ctx, &q)
		if err != nil {
			return err
		}
		keys, err = collect(tx.Query(ctx, sql, c.args))
		return err
	})
	return keys, s.conn.failure(err)
}

// A search builds one query.
type search struct {
	tx   pgx.Tx
	args pgx.NamedArgs
}

const holdsAddress = "ip_whitelist && @ranges"

func (c *search) query(ctx context.Context, q *keystore.Query) (string, error) {
	conditions, order := simpleConditions(q), " ORDER BY id"
	if q.Limit > 0 {
		order += " LIMIT @limit"
	}
	if q.Address.IsValid() {
		conditions += " AND " + holdsAddress
	}
	if q.Text == "" {
		from := keysTable
		if q.Address.IsValid() {
			var err error
			if from, err = c.narrow(ctx, holdsAddress); err != nil {
				return "", err
			}
		}
		return "SELECT " + columnList + " FROM " + from + " WHERE " + conditions + order, nil
	}
	// Each column is searched separately, with its own index. The operators are those of
	// text_pattern_ops: they compare bytes.
	var parts []string
	for _, column := range []string{"id", "name", "external_id"} {
		begins := fmt.Sprintf("lower(%s) ~>=~ @first AND lower(%[1]s) ~<~ @last", column)
		from, err := c.narrow(ctx, begins)
		if err != nil {
			return "", err
		}
		parts = append(parts, "(SELECT id FROM "+from+" WHERE "+conditions+" AND "+begins+order+")")
	}
	return selectKeys + " WHERE id IN (" + strings.Join(parts, " UNION ") + ")" + order, nil
}

// simpleConditions returns those that need no care.
func simpleConditions(q *keystore.Query) string {
	conditions := "id > @after"
	if !q.ExpiresAfter.IsZero() {
		conditions += " AND expires > @expires_after"
	}
	if !q.ExpiresBefore.IsZero() {
		conditions += " AND expires <= @expires_before"
	}
	switch q.State {
	case keystore.StateAny:
	case keystore.StateDisabled:
		conditions += " AND NOT enabled"
	case keystore.StateUnrestricted:
		conditions += " AND ip_whitelist IS NULL"
	case keystore.StateReport:
		conditions += " AND ip_whitelist_mode = 'report' AND ip_whitelist IS NOT NULL"
	}
	return conditions
}

const (
	keysTable = "extauthz.keys"

	// fewFound is how many rows a condition may find for them to be read first and put in order.
	fewFound = 20_000
)

// narrow returns where to look for the rows that a condition finds. The planner does not know how
// many there are: few are read by the condition's index first, and many come soon in any order.
func (c *search) narrow(ctx context.Context, condition string) (from string, err error) {
	var n int
	err = c.tx.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s WHERE %s LIMIT %d) AS found", keysTable, condition, fewFound+1), c.args).Scan(&n)
	if err != nil || n > fewFound {
		return keysTable, err
	}
	return "(SELECT * FROM " + keysTable + " WHERE " + condition + " OFFSET 0) AS keys", nil // OFFSET keeps it separate
}

// rangesHolding returns every range that holds the address.
func rangesHolding(addr netip.Addr) []netip.Prefix {
	addr = addr.Unmap().WithZone("")
	ranges := make([]netip.Prefix, 0, addr.BitLen()+1)
	for bits := range addr.BitLen() + 1 {
		ranges = append(ranges, netip.PrefixFrom(addr, bits).Masked())
	}
	return ranges
}
