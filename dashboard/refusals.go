package dashboard

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"extauthz/authz"
	"extauthz/keystore"
	"extauthz/usage"
)

const (
	refusalsPeriod = 15 * time.Minute
	maxRefusals    = 200
)

// A refusal is a key that was recently refused from an address.
type refusal struct {
	KeyID, KeyName string
	Version        string // of the key, for the form that allows the address
	Network        string
	Codes          map[string]uint64
	Refused        uint64
	Last           time.Time
	Ago            string // since then
	Listed         bool   // the address was what was wrong, and is on the whitelist now
	CanAllow       bool   // the address was what was wrong, and is not on the whitelist
	CheckPath      string // of the page that explains the decision
}

type refusalsData struct {
	HasUsage bool
	Minutes  int
	Rows     []refusal
	More     bool
}

func (d *Dashboard) refusalsPage(w http.ResponseWriter, r *http.Request, s *session) {
	data := refusalsData{HasUsage: d.cfg.Usage != nil, Minutes: int(refusalsPeriod.Minutes())}
	if !data.HasUsage {
		d.render(w, r, http.StatusOK, "refusals", "Refusals now", s, data)
		return
	}
	rows, err := d.cfg.Usage.Refusals(r.Context(), d.cfg.Now().Add(-refusalsPeriod), maxRefusals)
	if err != nil {
		d.failStore(w, r, err)
		return
	}
	data.More = len(rows) == maxRefusals
	keys := make(map[string]*keystore.Key)
	for _, row := range rows {
		k, ok := keys[row.KeyID]
		if !ok {
			k, err = d.cfg.Keys.Key(r.Context(), row.KeyID)
			if err != nil && !errors.Is(err, keystore.ErrNotFound) {
				d.failStore(w, r, err)
				return
			}
			keys[row.KeyID] = k // nil: it was deleted
		}
		data.Rows = append(data.Rows, newRefusal(&row, k, d.cfg.Now()))
	}
	d.render(w, r, http.StatusOK, "refusals", "Refusals now", s, data)
}

func newRefusal(row *usage.Row, k *keystore.Key, now time.Time) refusal {
	f := refusal{KeyID: row.KeyID, Network: usage.FormatNetwork(row.Network), Codes: row.RefusedByCode(), Refused: row.RefusedTotal(), Last: row.Last}
	f.Ago = ago(now.Sub(row.Last))
	if k != nil {
		f.KeyName, f.Version = k.Name, version(k)
		if row.Refused[authz.Forbidden] > 0 && k.Broken == nil && k.Whitelist.Restricted() {
			f.Listed = usage.Listed(k.Whitelist, row.Network)
			f.CanAllow = !f.Listed
		}
		f.CheckPath = "/check?" + url.Values{"key": {k.ID}, "peer": {row.Network.Addr().String()}}.Encode()
	}
	return f
}

// ago returns a duration of minutes in words.
func ago(d time.Duration) string {
	if s := int(d.Seconds()); s < 120 {
		return fmt.Sprintf("%d s ago", max(s, 0))
	}
	return fmt.Sprintf("%d min ago", int(d.Minutes()))
}
