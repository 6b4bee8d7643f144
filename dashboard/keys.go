package dashboard

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"extauthz/keystore"
	"extauthz/usage"
)

// pageSize is how many keys one page shows.
const pageSize = 50

// A keyFilter is a choice of keys.
type keyFilter struct {
	Name, Label string
	query       func(q *keystore.Query, now time.Time)
}

var keyFilters = []keyFilter{
	{"", "All", func(*keystore.Query, time.Time) {}},
	{"disabled", "Disabled", func(q *keystore.Query, _ time.Time) { q.State = keystore.StateDisabled }},
	{"expired", "Expired", func(q *keystore.Query, now time.Time) { q.ExpiresBefore = now }},
	{"expiring", "Expire in 30 days", func(q *keystore.Query, now time.Time) {
		q.ExpiresAfter, q.ExpiresBefore = now, now.AddDate(0, 0, 30)
	}},
	{"unrestricted", "Without a list", func(q *keystore.Query, _ time.Time) { q.State = keystore.StateUnrestricted }},
	{"report", "Report mode", func(q *keystore.Query, _ time.Time) { q.State = keystore.StateReport }},
	{"unused", "Unused for 90 days", nil}, // needs usage
}

// A keyRow is a key in the list.
type keyRow struct {
	*keystore.Key
	State    keyState
	LastUsed time.Time
}

type keysData struct {
	Text, Filter string
	Filters      []keyFilter
	Address      netip.Addr // searched for; the zero Addr if none
	Rows         []keyRow
	Next         string // the id after which the next page begins; empty: there is none
	After        string
	HasUsage     bool
}

func (d *Dashboard) keysPage(w http.ResponseWriter, r *http.Request, s *session) {
	data := keysData{
		Text: strings.TrimSpace(r.FormValue("q")), Filter: r.FormValue("filter"), After: r.FormValue("after"),
		Filters: keyFilters, HasUsage: d.cfg.Usage != nil,
	}
	if len(data.Text) > 256 {
		data.Text = data.Text[:256]
	}
	q := keystore.Query{After: data.After, Limit: pageSize + 1}
	if addr, err := netip.ParseAddr(data.Text); err == nil && addr.Zone() == "" {
		data.Address = addr.Unmap()
		q.Address = data.Address
	} else {
		q.Text = data.Text
	}
	now := d.cfg.Now()
	unused := data.Filter == "unused" && d.cfg.Usage != nil
	for _, f := range keyFilters {
		if f.Name == data.Filter && f.query != nil {
			f.query(&q, now)
		}
	}
	keys, err := d.search(r.Context(), q, unused, now)
	if err != nil {
		d.failStore(w, r, err)
		return
	}
	if len(keys) > pageSize {
		keys = keys[:pageSize]
		data.Next = keys[pageSize-1].ID
	}
	if data.Rows, err = d.rows(r.Context(), keys, now); err != nil {
		d.failStore(w, r, err)
		return
	}
	d.render(w, r, http.StatusOK, "keys", "Keys", s, data)
}

// search returns the keys of a page, and one more if there is one.
func (d *Dashboard) search(ctx context.Context, q keystore.Query, unused bool, now time.Time) ([]*keystore.Key, error) {
	if !unused {
		return keystore.Search(ctx, d.cfg.Keys, q)
	}
	var found []*keystore.Key
	limit := q.Limit
	for {
		page, err := keystore.Search(ctx, d.cfg.Keys, q)
		if err != nil {
			return nil, err
		}
		used, err := d.lastUsed(ctx, page)
		if err != nil {
			return nil, err
		}
		for _, k := range page {
			if used[k.ID].Before(now.AddDate(0, 0, -90)) {
				found = append(found, k)
			}
		}
		if len(found) >= limit || len(page) < q.Limit {
			return found[:min(limit, len(found))], nil
		}
		q.After = page[len(page)-1].ID
	}
}

// lastUsed returns when the keys, which are in order of id, were last used.
func (d *Dashboard) lastUsed(ctx context.Context, keys []*keystore.Key) (map[string]time.Time, error) {
	used := make(map[string]time.Time, len(keys))
	if d.cfg.Usage == nil {
		return used, nil
	}
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.ID
	}
	summaries, err := usage.SummariesOf(ctx, d.cfg.Usage, ids)
	for id, s := range summaries {
		used[id] = s.LastUsed
	}
	return used, err
}

func (d *Dashboard) rows(ctx context.Context, keys []*keystore.Key, now time.Time) ([]keyRow, error) {
	used, err := d.lastUsed(ctx, keys)
	if err != nil {
		return nil, err
	}
	rows := make([]keyRow, len(keys))
	for i, k := range keys {
		rows[i] = keyRow{k, stateOf(k, now), used[k.ID]}
	}
	return rows, nil
}

// A keyState is what a key is worth now, in a word and in a sentence.
type keyState struct{ Word, Text, Class string }

func stateOf(k *keystore.Key, now time.Time) keyState {
	switch {
	case k.Broken != nil:
		return keyState{"broken", "Its record cannot be read whole, so every request is refused as FORBIDDEN.", "bad"}
	case !k.Enabled:
		return keyState{"disabled", "It is switched off: every request is refused as DISABLED.", "bad"}
	case k.ExpiredAt(now):
		return keyState{"expired", "Its time is over: every request is refused as EXPIRED.", "bad"}
	case !k.Whitelist.Restricted():
		return keyState{"anywhere", "It works from any address: it has no list.", "warn"}
	case k.WhitelistMode == keystore.Report:
		return keyState{"report", "It works from any address: its list only reports what it would refuse.", "warn"}
	}
	return keyState{"enforced", "It works from the addresses on its list, and from no other.", "good"}
}
