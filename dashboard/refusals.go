package dashboard

import (
	"errors"
	"net/http"
	"time"

	"extauthz/authz"
	"extauthz/keystore"
	"extauthz/usage"
)

const (
	refusalsPeriod = 15 * time.Minute
	maxRefusals    = 200
)

// A refusal is a key that was refused from an address lately.
type refusal struct {
	KeyID, KeyName string
	Version        string // of the key, for the form that allows the address
	Network        string
	Codes          map[string]uint64
	Refused        uint64
	Last           time.Time
	CanAllow       bool // the address is what was wrong, and is not on the list now
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
			keys[row.KeyID] = k // nil: it is gone
		}
		data.Rows = append(data.Rows, newRefusal(&row, k))
	}
	d.render(w, r, http.StatusOK, "refusals", "Refusals now", s, data)
}

func newRefusal(row *usage.Row, k *keystore.Key) refusal {
	f := refusal{KeyID: row.KeyID, Network: usage.FormatNetwork(row.Network), Codes: row.RefusedByCode(), Refused: row.RefusedTotal(), Last: row.Last}
	if k != nil {
		f.KeyName, f.Version = k.Name, version(k)
		f.CanAllow = row.Refused[authz.Forbidden] > 0 && k.Broken == nil && !usage.Listed(k.Whitelist, row.Network)
	}
	return f
}
