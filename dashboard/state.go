package dashboard

import (
	"context"
	"net/http"
	"time"

	"extauthz/keystore"
)

// maxCounted bounds how many keys the state page looks at: it is to answer at once.
const maxCounted = 100_000

type stateData struct {
	State
	Offered      bool
	Counts       []stateCount
	Counted      int
	More         bool // there are more keys than were counted
	Expiring     []*keystore.Key
	MoreExpiring bool
	Broken       []*keystore.Key
}

type stateCount struct {
	Word   string
	Filter string // of the list of keys
	Count  int
}

// maxListed bounds each list of keys on the state page.
const maxListed = 20

func (d *Dashboard) statePage(w http.ResponseWriter, r *http.Request, s *session) {
	now := d.cfg.Now()
	data := stateData{Offered: d.cfg.State != nil}
	if data.Offered {
		data.State = d.cfg.State(r.Context())
	}
	err := d.countKeys(r.Context(), &data, now)
	if err == nil {
		data.Expiring, err = keystore.Search(r.Context(), d.cfg.Keys, keystore.Query{ExpiresAfter: now, ExpiresBefore: now.AddDate(0, 0, 30), Limit: maxListed + 1})
		if len(data.Expiring) > maxListed {
			data.Expiring, data.MoreExpiring = data.Expiring[:maxListed], true
		}
	}
	if data.Err == nil {
		data.Err = err
	}
	if data.Err != nil {
		d.cfg.Log.Error("the store does not answer", "path", r.URL.Path, "error", data.Err)
	}
	d.render(w, r, http.StatusOK, "state", "State", s, data)
}

// countKeys counts the keys by state, up to a bound.
func (d *Dashboard) countKeys(ctx context.Context, data *stateData, now time.Time) error {
	counts := map[string]int{}
	var failed error
	for k, err := range d.cfg.Keys.Keys(ctx, "") {
		if err != nil {
			failed = err
			break
		}
		if data.Counted == maxCounted {
			data.More = true
			break
		}
		data.Counted++
		counts[stateOf(k, now).Word]++
		if k.Broken != nil && len(data.Broken) < maxListed {
			data.Broken = append(data.Broken, k)
		}
	}
	for _, c := range []struct{ word, filter string }{
		{"enforced", ""}, {"report", "report"}, {"anywhere", "unrestricted"}, {"disabled", "disabled"}, {"expired", "expired"}, {"broken", ""},
	} {
		data.Counts = append(data.Counts, stateCount{c.word, c.filter, counts[c.word]})
	}
	return failed
}
