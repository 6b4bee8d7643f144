package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"extauthz/audit"
	"extauthz/keystore"
	"extauthz/usage"
)

// An editForm is one way to change a key.
type editForm struct {
	// parse reads the form and returns a function that changes a key, or the mistakes in the form.
	parse func(r *http.Request, now time.Time) (func(*keystore.Key) error, error)
	done  string // the message after the change

	effect bool // whether the page says when the change takes effect
}

// editForms are the forms of a key's page, by the last part of their address.
var editForms = map[string]editForm{
	"allow":     {parseAllow, "The addresses were added.", true},
	"disallow":  {parseDisallow, "The entry was removed.", true},
	"whitelist": {parseWhitelist, "The whitelist was replaced.", true},
	"mode":      {parseMode, "The mode was set.", true},
	"enable":    {parseEnabled(true), "The key is enabled.", true},
	"disable":   {parseEnabled(false), "The key is disabled.", true},
	"expire":    {parseExpire, "The expiry was set.", true},
}

// lineErrors are the mistakes in the lines of a form.
type lineErrors []lineError

type lineError struct {
	Line int
	Text string // the line
	Err  string // the mistake, and what to write instead
}

func (e lineErrors) Error() string { return fmt.Sprintf("%d lines cannot be used", len(e)) }

const maxLines = 10_000

// parseLines reads one entry per line. Empty lines and comments after # are ignored; a line may end in a comma,
// and entries may be quoted, as in a key file.
func parseLines(text string) ([]netip.Prefix, error) {
	var entries []netip.Prefix
	var wrong lineErrors
	n := 0
	for line := range strings.Lines(text) {
		if n++; n > maxLines {
			return nil, lineErrors{{n, "", fmt.Sprintf("more than %d lines: paste them in parts", maxLines)}}
		}
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		line = strings.TrimSpace(strings.TrimPrefix(line, "- "))
		line = strings.Trim(strings.TrimSuffix(line, ","), `"'`)
		if line == "" {
			continue
		}
		p, err := keystore.ParseWhitelistEntry(line)
		switch {
		case err != nil:
			wrong = append(wrong, lineError{n, clip(line), err.Error()})
		case !slices.Contains(entries, p):
			entries = append(entries, p)
		}
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	if len(entries) == 0 {
		return nil, lineErrors{{1, "", "nothing to add: write an IP address or a CIDR range, such as 192.0.2.7 or 2001:db8::/32"}}
	}
	return entries, nil
}

func parseAllow(r *http.Request, _ time.Time) (func(*keystore.Key) error, error) {
	entries, err := parseLines(r.PostFormValue("entries"))
	return func(k *keystore.Key) error {
		list := slices.Clone(k.Whitelist.Prefixes())
		for _, p := range entries {
			if !slices.Contains(list, p) {
				list = append(list, p)
			}
		}
		k.Whitelist = keystore.NewWhitelist(list)
		return nil
	}, err
}

func parseDisallow(r *http.Request, _ time.Time) (func(*keystore.Key) error, error) {
	p, err := keystore.ParseWhitelistEntry(r.PostFormValue("entry"))
	return func(k *keystore.Key) error {
		list := slices.DeleteFunc(slices.Clone(k.Whitelist.Prefixes()), func(o netip.Prefix) bool { return o == p })
		switch {
		case len(list) == len(k.Whitelist.Prefixes()):
			return fmt.Errorf("%s is not in the list", keystore.FormatWhitelistEntry(p))
		case len(list) == 0:
			return errors.New("this is the last entry, and an empty list says neither \"anyone\" nor \"no one\": disable the key to allow no one")
		}
		k.Whitelist = keystore.NewWhitelist(list)
		return nil
	}, err
}

func parseWhitelist(r *http.Request, _ time.Time) (func(*keystore.Key) error, error) {
	entries, err := parseLines(r.PostFormValue("entries"))
	return func(k *keystore.Key) error {
		k.Whitelist = keystore.NewWhitelist(entries)
		return nil
	}, err
}

func parseMode(r *http.Request, _ time.Time) (func(*keystore.Key) error, error) {
	mode, err := keystore.ParseWhitelistMode(r.PostFormValue("mode"))
	return func(k *keystore.Key) error {
		k.WhitelistMode = mode
		return nil
	}, err
}

func parseEnabled(enabled bool) func(*http.Request, time.Time) (func(*keystore.Key) error, error) {
	return func(*http.Request, time.Time) (func(*keystore.Key) error, error) {
		return func(k *keystore.Key) error {
			k.Enabled = enabled
			return nil
		}, nil
	}
}

// parseExpire reads a time in the format of browsers, in UTC; empty is never.
func parseExpire(r *http.Request, _ time.Time) (func(*keystore.Key) error, error) {
	text := strings.TrimSpace(r.PostFormValue("expires"))
	var moment time.Time
	var err error
	if text != "" {
		for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339, time.DateOnly} {
			if moment, err = time.ParseInLocation(layout, text, time.UTC); err == nil {
				break
			}
		}
		if err != nil {
			err = fmt.Errorf("%q is not a moment: write one such as 2027-01-31T00:00, in UTC, or leave it empty for never", clip(text))
		}
	}
	return func(k *keystore.Key) error {
		k.Expires = moment.UTC()
		return nil
	}, err
}

// errChanged means that a key has changed since the form was shown.
var errChanged = errors.New("the key has changed meanwhile")

// A confirmation is required before an edit that refuses recent requests, or of a key that has changed.
type confirmation struct {
	Key      *keystore.Key
	Action   string       // the form's address
	Fields   url.Values   // of the form
	Version  string       // of the key as it is now
	Changed  []audit.Edit // the edits since the form was shown; may be nil
	Conflict bool
	Question string            // the question, if there is one beyond whether to continue
	Button   string            // the label of the button that confirms
	ShutOut  *usage.Evaluation // requests of the last week that it would refuse; nil if none
	Days     int
}

// lookBack is the period of usage in which addresses are searched that an edit would refuse.
const lookBack = 7 * 24 * time.Hour

// edit changes the key that the request names.
func (d *Dashboard) edit(w http.ResponseWriter, r *http.Request, s *session, form editForm) {
	k := d.formKey(w, r)
	if k == nil {
		return
	}
	change, err := form.parse(r, d.cfg.Now())
	if err != nil {
		d.keyPageWith(w, r, s, k, http.StatusUnprocessableEntity, &formState{Values: r.PostForm, Err: err})
		return
	}
	after := k.Clone()
	if err := change(after); err != nil {
		d.keyPageWith(w, r, s, k, http.StatusUnprocessableEntity, &formState{Values: r.PostForm, Err: err})
		return
	}
	question := ""
	if r.PostFormValue("ask") == "yes" {
		question = fmt.Sprintf("Shall the key work from %s too?", clip(strings.TrimSpace(r.PostFormValue("entries"))))
	}
	if c := d.mustConfirm(r, k, after, question); c != nil {
		d.render(w, r, c.status(), "confirm", "Please confirm", s, c)
		return
	}
	if err := d.update(r.Context(), s, k, change); err != nil {
		d.editFailed(w, r, s, k, err)
		return
	}
	http.Redirect(w, r, keyPath(k.ID)+"?done="+url.QueryEscape(lastPart(r.URL.Path)), http.StatusSeeOther)
}

func lastPart(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// formKey reads a form and returns its key. It returns nil if it has answered the request with an error.
func (d *Dashboard) formKey(w http.ResponseWriter, r *http.Request) *keystore.Key {
	k := d.pathKey(w, r)
	if k == nil {
		return nil
	}
	if err := r.ParseForm(); err != nil {
		d.failForm(w, r, err)
		return nil
	}
	return k
}

// update writes a change of a key, unless the key has changed since the form was shown.
func (d *Dashboard) update(ctx context.Context, s *session, before *keystore.Key, change func(*keystore.Key) error) error {
	ctx = keystore.WithActor(ctx, s.user)
	return d.cfg.Keys.Update(ctx, before.ID, func(k *keystore.Key) error {
		if version(k) != version(before) {
			return errChanged
		}
		return change(k)
	})
}

// mustConfirm returns the confirmation that the user must give, or nil if the edit may be made: the key has
// not changed, and either nothing needs confirmation, or the user has confirmed it.
func (d *Dashboard) mustConfirm(r *http.Request, k, after *keystore.Key, question string) *confirmation {
	now := version(k)
	conflict := r.PostFormValue("version") != now
	shutOut := d.shutOut(r.Context(), k, after)
	if !conflict && (shutOut == nil && question == "" || r.PostFormValue("confirmed") == "yes") {
		return nil
	}
	fields := url.Values{}
	for name, values := range r.PostForm {
		if name != "version" && name != "confirmed" && name != "ask" {
			fields[name] = values
		}
	}
	c := &confirmation{Key: k, Action: r.URL.Path, Fields: fields, Version: now, Conflict: conflict, ShutOut: shutOut, Days: int(lookBack.Hours() / 24), Question: question}
	if question != "" {
		c.Button = "Yes"
	}
	if conflict && d.cfg.History != nil {
		c.Changed, _ = d.cfg.History(r.Context(), k.ID, 3) // without it, the page only says that the key has changed
	}
	return c
}

// status is 409 for a conflict with a concurrent edit or recent usage, and 200 for a question.
func (c *confirmation) status() int {
	if c.Conflict || c.ShutOut != nil {
		return http.StatusConflict
	}
	return http.StatusOK
}

// shutOut returns the requests of the last days that would be refused after an edit, if it refuses any that
// are not refused now.
func (d *Dashboard) shutOut(ctx context.Context, before, after *keystore.Key) *usage.Evaluation {
	if d.cfg.Usage == nil {
		return nil
	}
	since := d.cfg.Now().Add(-lookBack)
	u, err := d.cfg.Usage.Key(ctx, before.ID, since)
	if err != nil {
		d.cfg.Log.Warn("usage cannot be read", "error", err)
		return nil
	}
	refusals := func(k *keystore.Key) usage.Evaluation {
		list := k.Whitelist
		switch {
		case !k.Enabled || k.ExpiredAt(d.cfg.Now()):
			list = keystore.Whitelist{} // refuses all
		case k.WhitelistMode == keystore.Report:
			list = keystore.Anywhere()
		}
		return usage.Evaluate(u, list, since)
	}
	was, is := refusals(before), refusals(after)
	if is.RefusedRequests <= was.RefusedRequests {
		return nil
	}
	return &is
}

func (d *Dashboard) editFailed(w http.ResponseWriter, r *http.Request, s *session, k *keystore.Key, err error) {
	if errors.Is(err, errChanged) {
		if fresh, keyErr := d.cfg.Keys.Key(r.Context(), k.ID); keyErr == nil {
			k = fresh
		}
		d.render(w, r, http.StatusConflict, "confirm", "Please confirm", s,
			&confirmation{Key: k, Action: r.URL.Path, Fields: r.PostForm, Version: version(k), Conflict: true})
		return
	}
	d.cfg.Log.Error("an edit failed", "key_id", k.ID, "error", err)
	d.fail(w, r, http.StatusBadGateway, "The store did not take the change. Nothing was changed; the program's log says why.")
}
