package postgres

import (
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"extauthz/authz"
	"extauthz/usage"
)

// refusedColumns are the columns that count refusals of a known key.
var refusedColumns = []struct {
	code authz.Code
	name string
}{
	{authz.Unavailable, "unavailable"},
	{authz.Disabled, "disabled"},
	{authz.Expired, "expired"},
	{authz.Forbidden, "forbidden"},
	{authz.InsufficientPermissions, "insufficient_permissions"},
	{authz.RateLimited, "rate_limited"},
}

var (
	refusedNames = func() []string {
		names := make([]string, len(refusedColumns))
		for i, c := range refusedColumns {
			names[i] = c.name
		}
		return names
	}()
	refusedTotal = "(" + strings.Join(refusedNames, " + ") + ")"
	countColumns = append([]string{"allowed", "would_refuse"}, refusedNames...)

	selectRows = `SELECT key_id, network, day, first_seen, last_seen, ` + strings.Join(countColumns, ", ") + ` FROM extauthz.usage`

	// mergeRows returns the key of each row that is new, and "" for the others.
	mergeRows = `INSERT INTO extauthz.usage AS u (key_id, network, day, first_seen, last_seen, ` + strings.Join(countColumns, ", ") + `)
		SELECT * FROM unnest($1::text[], $2::cidr[], $3::date[], $4::timestamptz[], $5::timestamptz[],
			$6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])
		ON CONFLICT (key_id, network, day) DO UPDATE SET
			first_seen = least(u.first_seen, excluded.first_seen), last_seen = greatest(u.last_seen, excluded.last_seen), ` + sums() + `
		RETURNING CASE WHEN xmax = 0 THEN key_id ELSE '' END`

	selectSummaries = `SELECT key_id, last_used, last_network, last_current, last_previous, dropped FROM extauthz.usage_keys`

	mergeSummaries = `INSERT INTO extauthz.usage_keys AS k (key_id, last_used, last_network, last_current, last_previous, dropped)
		SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::cidr[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[])
		ON CONFLICT (key_id) DO UPDATE SET
			last_network = CASE WHEN k.last_used >= excluded.last_used THEN k.last_network ELSE excluded.last_network END,
			last_used = greatest(k.last_used, excluded.last_used),
			last_current = greatest(k.last_current, excluded.last_current),
			last_previous = greatest(k.last_previous, excluded.last_previous),
			dropped = greatest(k.dropped, excluded.dropped)`
)

func sums() string {
	list := make([]string, len(countColumns))
	for i, c := range countColumns {
		list[i] = c + " = u." + c + " + excluded." + c
	}
	return strings.Join(list, ", ")
}

// timestamp returns NULL's counterpart for the zero Time, which SQL would take for the year 1.
func timestamp(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 0)
	}
	return t
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func summaryColumns(summaries []usage.Summary) []any {
	ids := make([]string, len(summaries))
	networks := make([]*netip.Prefix, len(summaries))
	var times [4][]*time.Time
	for i := range summaries {
		s := &summaries[i]
		ids[i] = s.KeyID
		if s.LastNetwork.IsValid() {
			networks[i] = &s.LastNetwork
		}
		for j, t := range []time.Time{s.LastUsed, s.LastCurrent, s.LastPrevious, s.Dropped} {
			times[j] = append(times[j], optional(t))
		}
	}
	return []any{ids, times[0], networks, times[1], times[2], times[3]}
}

func rowColumns(rows []usage.Row) []any {
	ids := make([]string, len(rows))
	networks := make([]netip.Prefix, len(rows))
	days, first, last := make([]time.Time, len(rows)), make([]time.Time, len(rows)), make([]time.Time, len(rows))
	counts := make([][]int64, len(countColumns))
	for i := range counts {
		counts[i] = make([]int64, len(rows))
	}
	for i := range rows {
		r := &rows[i]
		ids[i], networks[i], days[i], first[i], last[i] = r.KeyID, r.Network, r.Day.Start(), r.First, r.Last
		counts[0][i], counts[1][i] = int64(r.Allowed), int64(r.WouldRefuse) //nolint:gosec // counts do not reach 2^63
		for j, c := range refusedColumns {
			counts[2+j][i] = int64(r.Refused[c.code]) //nolint:gosec // nor do these
		}
	}
	args := []any{ids, networks, days, first, last}
	for _, c := range counts {
		args = append(args, c)
	}
	return args
}

func scanRow(row pgx.CollectableRow) (usage.Row, error) {
	var r usage.Row
	var day time.Time
	counts := make([]int64, len(countColumns))
	into := []any{&r.KeyID, &r.Network, &day, &r.First, &r.Last}
	for i := range counts {
		into = append(into, &counts[i])
	}
	if err := row.Scan(into...); err != nil {
		return r, err
	}
	r.Day, r.First, r.Last = usage.DayOf(day), r.First.UTC(), r.Last.UTC()
	r.Allowed, r.WouldRefuse = uint64(counts[0]), uint64(counts[1]) //nolint:gosec // never negative
	for i, c := range refusedColumns {
		r.Refused[c.code] = uint64(counts[2+i]) //nolint:gosec // never negative
	}
	return r, nil
}

func scanSummary(row pgx.CollectableRow) (usage.Summary, error) {
	var s usage.Summary
	var network *netip.Prefix
	var times [4]*time.Time
	err := row.Scan(&s.KeyID, &times[0], &network, &times[1], &times[2], &times[3])
	for i, t := range []*time.Time{&s.LastUsed, &s.LastCurrent, &s.LastPrevious, &s.Dropped} {
		if times[i] != nil {
			*t = times[i].UTC()
		}
	}
	if network != nil {
		s.LastNetwork = *network
	}
	return s, err
}
