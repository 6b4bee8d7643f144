package dashboard

import (
	"net/http"
	"time"

	"extauthz/keystore"
)

// maxCounted bounds how many keys the state page looks at: it is to answer at once.
const maxCounted = 100_000

type stateData struct {
	State
	Offered  bool
	Counts   []stateCount
	More     bool // there are more keys than were counted
	Expiring []keyRow
	Broken   []keyRow
}

type stateCount struct {
	Word   string
	Filter string // of the list of keys
	Count  int
}

func (d *Dashboard) statePage(w http.ResponseWriter, r *http.Request, s *session) {
	now := d.cfg.Now()
	data := stateData{Offered: d.cfg.State != nil}
	if data.Offered {
		data.State = d.cfg.State(r.Context())
	}
	counts := map[string]int{}
	n := 0
	for k, err := range d.cfg.Keys.Keys(r.Context(), "") {
		if err != nil {
			if data.Err == nil {
				data.Err = err
			}
			break
		}
		if n++; n > maxCounted {
			data.More = true
			break
		}
		row := keyRow{k, stateOf(k, now), time.Time{}}
		counts[row.State.Word]++
		switch {
		case k.Broken != nil && len(data.Broken) < 20:
			data.Broken = append(data.Broken, row)
		case expiresSoon(k, now) && len(data.Expiring) < 20:
			data.Expiring = append(data.Expiring, row)
		}
	}
	for _, c := range []struct{ word, filter string }{
		{"enforced", ""}, {"report", "report"}, {"anywhere", "unrestricted"}, {"disabled", "disabled"}, {"expired", "expired"}, {"broken", ""},
	} {
		data.Counts = append(data.Counts, stateCount{c.word, c.filter, counts[c.word]})
	}
	d.render(w, r, http.StatusOK, "state", "State", s, data)
}

func expiresSoon(k *keystore.Key, now time.Time) bool {
	return !k.Expires.IsZero() && !k.ExpiredAt(now) && k.Expires.Before(now.AddDate(0, 0, 30))
}
