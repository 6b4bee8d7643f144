package dashboard

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"extauthz/keystore"
)

// pageSize is the number of keys on one page.
const pageSize = 50

// A keyFilter selects keys.
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
	{"unrestricted", "Without a whitelist", func(q *keystore.Query, _ time.Time) { q.State = keystore.StateUnrestricted }},
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
	Narrowed     bool // by a search, a filter or a page
}

func (d *Dashboard) keysPage(w http.ResponseWriter, r *http.Request, s *session) {
	data := keysData{
		Text: searchText(r.FormValue("q")), Filter: r.FormValue("filter"), After: searchText(r.FormValue("after")),
		Filters: keyFilters, HasUsage: d.cfg.Usage != nil,
	}
	q := keystore.Query{After: data.After}
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
	keys, next, err := d.search(r.Context(), q, unused, now)
	if err != nil {
		d.failStore(w, r, err)
		return
	}
	data.Next, data.Narrowed = next, data.Text != "" || data.Filter != "" || data.After != ""
	if data.Rows, err = d.rows(r.Context(), keys, now); err != nil {
		d.failStore(w, r, err)
		return
	}
	d.render(w, r, http.StatusOK, "keys", "Keys", s, data)
}

const (
	unusedDays = 90
	scanStep   = 1000   // keys whose usage is read together, in a search for unused keys
	maxScanned = 20_000 // keys that a search for unused keys reads for one page
)

// searchText returns the part of a text that a store can search for: short, UTF-8, and without NUL.
func searchText(s string) string {
	const longest = 256
	s = strings.TrimSpace(strings.ReplaceAll(s, "\x00", ""))
	return strings.ToValidUTF8(s[:min(len(s), longest)], "")
}

// search returns the keys of a page, and the id after which the next page begins, or "" if there
// is none.
func (d *Dashboard) search(ctx context.Context, q keystore.Query, unused bool, now time.Time) (keys []*keystore.Key, next string, err error) {
	if unused {
		return d.searchUnused(ctx, q, now)
	}
	q.Limit = pageSize + 1
	if keys, err = keystore.Search(ctx, d.cfg.Keys, q); err != nil || len(keys) <= pageSize {
		return keys, "", err
	}
	return keys[:pageSize], keys[pageSize-1].ID, nil
}

// searchUnused is search for keys that were not used recently. It reads a limited number of keys, so that a
// page with few or no keys may have a next page.
func (d *Dashboard) searchUnused(ctx context.Context, q keystore.Query, now time.Time) (found []*keystore.Key, next string, err error) {
	q.Limit = scanStep
	for range maxScanned / scanStep {
		page, err := keystore.Search(ctx, d.cfg.Keys, q)
		if err != nil {
			return nil, "", err
		}
		used, err := d.lastUsed(ctx, page)
		if err != nil {
			return nil, "", err
		}
		for _, k := range page {
			if !used[k.ID].Before(now.AddDate(0, 0, -unusedDays)) {
				continue
			}
			if len(found) == pageSize {
				return found, found[pageSize-1].ID, nil
			}
			found = append(found, k)
		}
		if len(page) < q.Limit {
			return found, "", nil
		}
		q.After = page[len(page)-1].ID
	}
	return found, q.After, nil
}

// lastUsed returns when the keys were last used.
func (d *Dashboard) lastUsed(ctx context.Context, keys []*keystore.Key) (map[string]time.Time, error) {
	used := make(map[string]time.Time, len(keys))
	if d.cfg.Usage == nil {
		return used, nil
	}
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.ID
	}
	summaries, err := d.cfg.Usage.SummariesOf(ctx, ids)
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

// A keyState is the current state of a key, as a word and as a sentence.
type keyState struct{ Word, Text, Class string }

func stateOf(k *keystore.Key, now time.Time) keyState {
	switch {
	case k.Broken != nil:
		return keyState{"broken", "Its record cannot be read whole, so every request is refused as FORBIDDEN.", "bad"}
	case !k.Enabled:
		return keyState{"disabled", "It is disabled: every request is refused as DISABLED.", "bad"}
	case k.ExpiredAt(now):
		return keyState{"expired", "It has expired: every request is refused as EXPIRED.", "bad"}
	case !k.Whitelist.Restricted():
		return keyState{"anywhere", "It works from any address: it has no whitelist.", "warn"}
	case k.WhitelistMode == keystore.Report:
		return keyState{"report", "It works from any address: its whitelist only reports what it would refuse.", "warn"}
	}
	return keyState{"enforced", "It works from the addresses on its whitelist, and from no other.", "good"}
}
