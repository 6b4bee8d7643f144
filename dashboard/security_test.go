package dashboard_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"extauthz/dashboard"
	"extauthz/keystore"
)

// changes are the paths that change something, each with a valid form.
var changes = map[string]url.Values{
	"/keys/key_acme/allow":     {"entries": {"192.0.2.7"}},
	"/keys/key_acme/disallow":  {"entry": {"10.0.0.0/8"}},
	"/keys/key_acme/whitelist": {"entries": {"192.0.2.7"}},
	"/keys/key_acme/mode":      {"mode": {"report"}},
	"/keys/key_acme/enable":    {},
	"/keys/key_acme/disable":   {},
	"/keys/key_acme/expire":    {"expires": {"2031-01-31T10:00"}},
	"/keys/key_acme/rotate":    {"grace": {"0"}},
	"/new":                     {"id": {"key_evil"}, "anywhere": {"yes"}},
}

// request sends a form with a session of the site's user, unless anonymous is set.
func (s *site) request(method, path string, form url.Values, header http.Header, anonymous bool) (int, http.Header, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, values := range header {
		if name == "Host" {
			r.Host = values[0]
			continue
		}
		r.Header[name] = values
	}
	client := *s.client
	if anonymous {
		client.Jar = nil
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// TestNobodyElseChangesAnything sends every change in every way that must be refused.
func TestNobodyElseChangesAnything(t *testing.T) {
	for _, c := range []struct {
		name      string
		role      dashboard.Role
		method    string
		header    http.Header
		anonymous bool
		status    []int
	}{
		{"without a cookie", dashboard.Editor, http.MethodPost, nil, true, []int{401}},
		{"with an old cookie", dashboard.Editor, http.MethodPost, http.Header{"Cookie": {"extauthz_session=ABCDEFGHIJKLMNOPQRSTUVWXYZ"}}, true, []int{401}},
		{"by a viewer", dashboard.Viewer, http.MethodPost, nil, false, []int{403}},
		{"by a GET", dashboard.Editor, http.MethodGet, nil, false, []int{200, 405}}, // the form of a new key is a page
		{"by a HEAD", dashboard.Editor, http.MethodHead, nil, false, []int{200, 405}},
		{"by a PUT", dashboard.Editor, http.MethodPut, nil, false, []int{405}},
		{"from another site", dashboard.Editor, http.MethodPost, http.Header{"Origin": {"https://evil.example"}}, false, []int{403}},
		{"from nowhere", dashboard.Editor, http.MethodPost, http.Header{"Origin": {"null"}}, false, []int{403}},
		{"by a simple form of another site", dashboard.Editor, http.MethodPost, http.Header{"Sec-Fetch-Site": {"cross-site"}}, false, []int{403}},
		{"by a sibling site", dashboard.Editor, http.MethodPost, http.Header{"Sec-Fetch-Site": {"same-site"}}, false, []int{403}},
		{"under another name", dashboard.Editor, http.MethodPost, http.Header{"Host": {"evil.example"}}, false, []int{421}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, roleLogin(c.role))
			s.post("/login", url.Values{}, http.StatusOK)
			before := *s.add("key_acme", "10.0.0.0/8", "192.0.2.0/24")
			for path, form := range changes {
				if m := versionField.FindStringSubmatch(s.get("/keys/key_acme", 200)); m != nil {
					form.Set("version", m[1])
				}
				form.Set("confirmed", "yes")
				status, _, body := s.request(c.method, path, form, c.header, c.anonymous)
				ok := false
				for _, want := range c.status {
					ok = ok || status == want
				}
				if !ok {
					t.Errorf("%s: %d, want %v\n%s", path, status, c.status, body)
				}
			}
			k := s.key("key_acme")
			if !k.Whitelist.Equal(before.Whitelist) || !k.Enabled || k.WhitelistMode != keystore.Enforce || k.Hash != before.Hash || !k.Expires.IsZero() {
				t.Errorf("the key was changed: %+v", k)
			}
			if _, err := s.keys.Key(t.Context(), "key_evil"); err == nil {
				t.Error("a key was added")
			}
		})
	}
}

func TestPagesNeedALogin(t *testing.T) {
	s := asEditor(t)
	s.add("key_acme", "10.0.0.0/8")
	for _, path := range []string{"/", "/keys/key_acme", "/refusals", "/check", "/state", "/new"} {
		status, header, body := s.request(http.MethodGet, path, nil, nil, true)
		if status != http.StatusSeeOther || header.Get("Location") != "/login" || strings.Contains(body, "10.0.0.0") {
			t.Errorf("%s: %d to %s\n%s", path, status, header.Get("Location"), body)
		}
	}
	s.post("/logout", nil, 200)
	if status, _, _ := s.request(http.MethodGet, "/", nil, nil, false); status != http.StatusSeeOther {
		t.Errorf("after the logout: %d", status)
	}
}

func TestHeaders(t *testing.T) {
	s := asEditor(t)
	for _, path := range []string{"/", "/login", "/static/style.css", "/nothing"} {
		_, h, _ := s.request(http.MethodGet, path, nil, nil, false)
		for name, text := range map[string]string{
			"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Referrer-Policy": "no-referrer",
		} {
			if !strings.Contains(h.Get(name), text) {
				t.Errorf("%s: %s is %q, want %q in it", path, name, h.Get(name), text)
			}
		}
		if path != "/static/style.css" && h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be cached: %q", path, h.Get("Cache-Control"))
		}
	}
	for _, path := range []string{"/static/../dashboard.go", "/static/%2e%2e/templates/layout.html", "/static//etc/passwd", "/keys/..%2f..%2fetc%2fpasswd"} {
		if status, _, body := s.request(http.MethodGet, path, nil, nil, false); status == 200 {
			t.Errorf("%s: %d\n%s", path, status, body)
		}
	}
	_, _, page := s.request(http.MethodGet, "/", nil, nil, false)
	if strings.Contains(page, "http://") || strings.Contains(page, "https://") || strings.Contains(page, "style=") || strings.Contains(page, "onclick") {
		t.Errorf("the page names another host, or has style or script in it:\n%s", page)
	}
}

func TestSessionCookie(t *testing.T) {
	s := newSite(t, roleLogin(dashboard.Editor))
	_, h, _ := s.request(http.MethodPost, "/login", url.Values{}, nil, true)
	cookie := h.Get("Set-Cookie")
	for _, part := range []string{"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"} {
		if !strings.Contains(cookie, part) {
			t.Errorf("the cookie is %q, want %s in it", cookie, part)
		}
	}
}

func TestTokenLogin(t *testing.T) {
	now := time.Now()
	login, token := dashboard.NewTokenLogin("ann@host", func() time.Time { return now })
	s := newSite(t, login)
	want(t, s.get("/login", 200), "Open the link")
	want(t, s.get("/login?token="+token, 200), token, "Log in") // reading the page does not use it up
	s.post("/login", url.Values{"token": {"wrong"}}, 403)
	s.post("/login", url.Values{}, 403)
	s.post("/login", url.Values{"token": {token}}, 200)
	want(t, s.get("/", 200), "Keys")
	want(t, s.post("/login", url.Values{"token": {token}}, 403), "used already")

	login, token = dashboard.NewTokenLogin("ann@host", func() time.Time { return now })
	s = newSite(t, login)
	now = now.Add(10 * time.Minute)
	s.post("/login", url.Values{"token": {token}}, 403)

	login, token = dashboard.NewTokenLogin("ann@host", func() time.Time { return now })
	s = newSite(t, login)
	for range 10 {
		s.post("/login", url.Values{"token": {"guess"}}, 403)
	}
	s.post("/login", url.Values{"token": {token}}, 429)
}

// TestMarkupIsText puts markup into every field that a key can hold.
func TestMarkupIsText(t *testing.T) {
	s := asEditor(t)
	const evil = `<script>alert(1)</script>"'&`
	k := s.add("key_evil", "10.0.0.0/8")
	err := s.keys.Update(t.Context(), k.ID, func(k *keystore.Key) error {
		k.Name, k.ExternalID = evil, evil
		k.Meta, _ = json.Marshal(map[string]string{"note": evil})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.use("key_evil", "203.0.113.7", 5, 1)
	for _, path := range []string{"/", "/keys/key_evil", "/refusals", "/?q=" + url.QueryEscape(evil), "/check?key=" + url.QueryEscape(evil), "/keys/" + url.PathEscape(evil), "/login?token=" + url.QueryEscape(evil)} {
		_, _, page := s.request(http.MethodGet, path, nil, nil, false)
		if strings.Contains(page, "<script>alert") {
			t.Errorf("%s: markup is not escaped:\n%s", path, page)
		}
	}
	_, _, page := s.request(http.MethodPost, "/keys/key_evil/allow", s.form("key_evil", "entries", evil), nil, false)
	if strings.Contains(page, "<script>alert") || !strings.Contains(page, "Nothing was changed") {
		t.Errorf("the form repeats markup:\n%s", page)
	}
}

func TestLargeForms(t *testing.T) {
	s := asEditor(t)
	s.add("key_acme", "10.0.0.0/8")
	want(t, s.post("/keys/key_acme/allow", s.form("key_acme", "entries", strings.Repeat("192.0.2.7\n", 200_000)), 413), "larger than 1 MiB")
	var lines strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&lines, "172.16.%d.%d\n", i/256, i%256)
	}
	s.post("/keys/key_acme/allow", s.form("key_acme", "entries", lines.String()), 200)
	if n := len(s.key("key_acme").Whitelist.Prefixes()); n != 10_001 {
		t.Errorf("%d entries, want 10001", n)
	}
	want(t, s.post("/keys/key_acme/allow", s.form("key_acme", "entries", lines.String()+"192.0.2.1\n"), 422), "more than 10000 lines")
}

// TestInsideStaysInside: no page shows an error of the store.
func TestInsideStaysInside(t *testing.T) {
	s := asEditor(t)
	s.add("key_acme", "10.0.0.0/8")
	form := s.form("key_acme")
	s.breakStore()
	for _, path := range []string{"/", "/keys/key_acme"} {
		_, _, page := s.request(http.MethodGet, path, nil, nil, false)
		if strings.Contains(page, ".yaml") {
			t.Errorf("%s tells of the inside:\n%s", path, page)
		}
	}
	if _, _, page := s.request(http.MethodPost, "/keys/key_acme/disable", form, nil, false); strings.Contains(page, ".yaml") {
		t.Errorf("an edit tells of the inside:\n%s", page)
	}
}
