package dashboard

import (
	"net/http"
	"slices"
	"strings"
)

// policy lets a page load only our own style and script, and forbids framing.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// guard refuses requests that our pages do not send: those for other hosts, and cross-site changes. It limits
// the size of forms, and sets security headers.
func (d *Dashboard) guard(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.cfg.Log.Warn("a cross-origin request was refused", "path", r.URL.Path, "origin", clip(r.Header.Get("Origin")))
		d.fail(w, r, http.StatusForbidden, "This request came from another site, so nothing was changed.")
	}))
	next = protection.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if d.cfg.TLS {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if strings.HasPrefix(r.URL.Path, "/static/") {
			h.Set("Cache-Control", "no-cache")
		} else {
			h.Set("Cache-Control", "no-store")
		}
		if !slices.Contains(d.cfg.Hosts, strings.ToLower(r.Host)) {
			d.cfg.Log.Warn("a request for another host was refused", "host", clip(r.Host))
			http.Error(w, "This name is not one of the dashboard's.", http.StatusMisdirectedRequest)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		next.ServeHTTP(w, r)
	})
}

// require lets a handler run for users who have at least the role.
func (d *Dashboard) require(role Role, handle func(http.ResponseWriter, *http.Request, *session)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := d.sessions.of(r)
		switch {
		case s == nil && r.Method == http.MethodGet:
			http.Redirect(w, r, "/login", http.StatusSeeOther)
		case s == nil:
			d.fail(w, r, http.StatusUnauthorized, "You are not logged in, or your session is over. Nothing was changed.")
		case s.role < role:
			d.fail(w, r, http.StatusForbidden, "You may look at keys, but not change them. Nothing was changed.")
		default:
			handle(w, r, s)
		}
	}
}

// clip limits the length of a caller's text in the log.
func clip(s string) string {
	const longest = 200
	if len(s) > longest {
		return s[:longest] + "…"
	}
	return s
}
