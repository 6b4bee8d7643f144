package dashboard

import (
	"cmp"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"extauthz/audit"
	"extauthz/keystore"
	"extauthz/usage"
)

// A formState is a form that is shown again because it has a mistake.
type formState struct {
	Values url.Values
	Err    error
}

// Text returns the mistake, unless it is in lines.
func (f *formState) Text() string {
	if f == nil || f.Err == nil {
		return ""
	}
	return f.Err.Error()
}

// Lines returns the mistakes by line.
func (f *formState) Lines() []lineError {
	if f == nil {
		return nil
	}
	lines, _ := errors.AsType[lineErrors](f.Err)
	return lines
}

// Entries returns the submitted lines.
func (f *formState) Entries() string {
	if f == nil {
		return ""
	}
	return f.Values.Get("entries")
}

type keyData struct {
	Key       *keystore.Key
	State     keyState
	Version   string
	Done      string // the change that was just made
	Effect    string // when it takes effect; may be empty
	Form      *formState
	Entries   []listEntry
	HasUsage  bool
	UsageErr  bool
	Usage     *usage.KeyUsage
	Complete  bool
	Used      []usedFrom
	Days      dayChart
	Top       topChart
	Proposal  *proposalData
	Evaluated *evaluationData
	Edits     []audit.Edit
}

// A listEntry is an entry of a key's list, with when it was last used.
type listEntry struct {
	Text     string
	LastUsed time.Time
}

// A usedFrom is a network that a key was used from.
type usedFrom struct {
	Network          string
	Allowed, Refused uint64
	WouldRefuse      uint64
	Codes            map[string]uint64
	First, Last      time.Time
	Listed           bool
}

type proposalData struct {
	usage.Proposal
	Widen bool
	Lines string // the entries, one per line
}

type evaluationData struct {
	usage.Evaluation
	Prefixes []netip.Prefix // the whitelist that was tried
	Lines    string         // the same, one per line
}

// usagePeriod is the period of usage on a key's page.
const usagePeriod = 30 * 24 * time.Hour

func (d *Dashboard) keyPage(w http.ResponseWriter, r *http.Request, s *session) {
	k := d.pathKey(w, r)
	if k == nil {
		return
	}
	d.keyPageWith(w, r, s, k, http.StatusOK, nil)
}

// pathKey returns the key in the request's path, or nil if it has answered the request.
func (d *Dashboard) pathKey(w http.ResponseWriter, r *http.Request) *keystore.Key {
	id := r.PathValue("id")
	if keystore.ValidateID(id) != nil {
		d.failKey(w, r, keystore.ErrNotFound)
		return nil
	}
	k, err := d.cfg.Keys.Key(r.Context(), id)
	if err != nil {
		d.failKey(w, r, err)
		return nil
	}
	return k
}

// keyPageWith shows a key's page, with a form that must be corrected.
func (d *Dashboard) keyPageWith(w http.ResponseWriter, r *http.Request, s *session, k *keystore.Key, status int, form *formState) {
	d.render(w, r, status, "key", k.ID, s, d.keyData(r, k, form))
}

func (d *Dashboard) keyData(r *http.Request, k *keystore.Key, form *formState) *keyData {
	now := d.cfg.Now()
	data := &keyData{Key: k, State: stateOf(k, now), Version: version(k), Form: form, HasUsage: d.cfg.Usage != nil}
	if f, ok := editForms[r.URL.Query().Get("done")]; ok {
		data.Done = f.done
		if f.effect {
			data.Effect = d.effect(r.Context())
		}
	}
	if d.cfg.History != nil {
		var err error
		if data.Edits, err = d.cfg.History(r.Context(), k.ID, 20); err != nil {
			d.cfg.Log.Warn("the history of edits cannot be read", "error", err)
		}
	}
	if data.HasUsage {
		d.addUsage(r, data, now)
	}
	for _, p := range k.Whitelist.Prefixes() {
		data.Entries = append(data.Entries, listEntry{keystore.FormatWhitelistEntry(p), lastUsedFrom(data.Usage, p)})
	}
	return data
}

func (d *Dashboard) addUsage(r *http.Request, data *keyData, now time.Time) {
	since := now.Add(-usagePeriod)
	u, err := d.cfg.Usage.Key(r.Context(), data.Key.ID, since)
	if err != nil {
		d.cfg.Log.Warn("usage cannot be read", "error", err)
		data.UsageErr = true
		return
	}
	data.Usage, data.Complete = u, u.Complete(since)
	for _, a := range u.Addresses(since) {
		data.Used = append(data.Used, usedFrom{
			usage.FormatNetwork(a.Network), a.Allowed, a.RefusedTotal(), a.WouldRefuse, a.RefusedByCode(), a.First, a.Last,
			usage.Listed(data.Key.Whitelist, a.Network),
		})
	}
	slices.SortStableFunc(data.Used, func(a, b usedFrom) int {
		return cmp.Or(cmp.Compare(b.Allowed+b.Refused, a.Allowed+a.Refused), b.Last.Compare(a.Last))
	})
	data.Days, data.Top = newDayChart(u, since, now), newTopChart(data.Used)
	widen := r.URL.Query().Get("widen") != ""
	o := usage.ProposalOptions{Since: now.Add(-lookBack), MaxEntries: 50}
	if widen {
		o.Widen4, o.Widen6 = 24, 56
	}
	data.Proposal = &proposalData{Proposal: usage.Propose(u, o), Widen: widen}
	for _, e := range data.Proposal.Entries {
		data.Proposal.Lines += keystore.FormatWhitelistEntry(e.Prefix) + "\n"
	}
}

// lastUsedFrom returns when the key was last used from a range of its list.
func lastUsedFrom(u *usage.KeyUsage, p netip.Prefix) time.Time {
	var last time.Time
	if u == nil {
		return last
	}
	for i := range u.Rows {
		if row := &u.Rows[i]; p.Overlaps(row.Network) && row.Allowed > 0 && row.Last.After(last) {
			last = row.Last
		}
	}
	return last
}

// evaluate shows what a list would have refused in the last days. It changes nothing.
func (d *Dashboard) evaluate(w http.ResponseWriter, r *http.Request, s *session) {
	k := d.formKey(w, r)
	if k == nil {
		return
	}
	entries, err := parseLines(r.PostFormValue("entries"))
	if err != nil {
		d.keyPageWith(w, r, s, k, http.StatusUnprocessableEntity, &formState{Values: r.PostForm, Err: err})
		return
	}
	form := &formState{Values: r.PostForm} // keeps the user's input
	if r.URL.Query().Get("of") == "proposal" {
		form = nil
	}
	data := d.keyData(r, k, form)
	if data.Usage != nil {
		e := &evaluationData{Evaluation: usage.Evaluate(data.Usage, keystore.NewWhitelist(entries), d.cfg.Now().Add(-lookBack)), Prefixes: entries}
		for _, p := range entries {
			e.Lines += keystore.FormatWhitelistEntry(p) + "\n"
		}
		data.Evaluated = e
	}
	d.render(w, r, http.StatusOK, "key", k.ID, s, data)
}
