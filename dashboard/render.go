package dashboard

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"extauthz/keystore"
	"extauthz/usage"
)

// pages are the parsed templates, one for each page, in the layout of all.
type pages struct{ byName map[string]*template.Template }

func parsePages(files fs.FS) (*pages, error) {
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	p := &pages{make(map[string]*template.Template)}
	for _, name := range names {
		base := strings.TrimSuffix(path.Base(name), ".html")
		if base == "layout" {
			continue
		}
		t, err := template.New("layout.html").Funcs(functions).ParseFS(files, "templates/layout.html", name)
		if err != nil {
			return nil, err
		}
		p.byName[base] = t
	}
	return p, nil
}

var functions = template.FuncMap{
	"moment":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"keyPath": keyPath,
	"network": usage.FormatNetwork,
	"entry":   keystore.FormatWhitelistEntry,
	"join":    strings.Join,
	"plural": func(n any, one, many string) string {
		if fmt.Sprint(n) == "1" {
			return "1 " + one
		}
		return fmt.Sprintf("%v %s", n, many)
	},
}

func keyPath(id string) string { return "/keys/" + url.PathEscape(id) }

// A layoutData is what every page has.
type layoutData struct {
	Title  string
	User   string // empty if not logged in
	Editor bool
	Path   string
	Data   any
}

// render writes a page, whole or not at all.
func (d *Dashboard) render(w http.ResponseWriter, r *http.Request, status int, page, title string, s *session, data any) {
	l := layoutData{Title: title, Path: r.URL.Path, Data: data}
	if s != nil {
		l.User, l.Editor = s.user, s.role >= Editor
	}
	var b bytes.Buffer
	if err := d.pages.byName[page].Execute(&b, l); err != nil {
		d.cfg.Log.Error("a page cannot be shown", "page", page, "error", err)
		http.Error(w, "This page cannot be shown. The program's log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = b.WriteTo(w) // the browser may be gone
}

// fail shows that a request could not be carried out.
func (d *Dashboard) fail(w http.ResponseWriter, r *http.Request, status int, text string) {
	d.render(w, r, status, "error", http.StatusText(status), d.sessions.of(r), text)
}

func (d *Dashboard) failKey(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, keystore.ErrNotFound) {
		d.fail(w, r, http.StatusNotFound, "There is no such key. It may have been deleted.")
		return
	}
	d.failStore(w, r, err)
}

func (d *Dashboard) failStore(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // the browser has disconnected
	}
	d.cfg.Log.Error("the store does not answer", "path", r.URL.Path, "error", err)
	d.fail(w, r, http.StatusBadGateway, "The store does not answer. The program's log says why.")
}

func (d *Dashboard) failForm(w http.ResponseWriter, r *http.Request, err error) {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		d.fail(w, r, http.StatusRequestEntityTooLarge, "This form is larger than 1 MiB. Nothing was changed: send it in parts.")
		return
	}
	d.fail(w, r, http.StatusBadRequest, "This form cannot be read. Nothing was changed.")
}
