package dashboard_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"extauthz/dashboard"
	"extauthz/keystore"
)

// serve returns a handler's response to a request from a peer.
func serve(d http.Handler, method, target, peer string, form url.Values, cookies ...*http.Cookie) *http.Response {
	r := httptest.NewRequest(method, target, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.RemoteAddr = peer
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result()
}

func newDashboard(t *testing.T, cfg dashboard.Config) *dashboard.Dashboard {
	t.Helper()
	if cfg.Keys == nil {
		cfg.Keys = newSite(t, roleLogin(dashboard.Editor)).keys
	}
	cfg.Hosts = []string{"keys.example.com"}
	d, err := dashboard.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const (
	home = "192.0.2.1:1234"
	away = "203.0.113.9:1234"
)

// TestGuessingKeepsNobodyOut limits attempts by address: guesses do not lock others out.
func TestGuessingKeepsNobodyOut(t *testing.T) {
	login, token := dashboard.NewTokenLogin("ann@host", time.Now)
	d := newDashboard(t, dashboard.Config{Login: login, Now: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	for i := range 30 {
		want := http.StatusForbidden
		if i >= 10 {
			want = http.StatusTooManyRequests
		}
		for _, peer := range []string{away, fmt.Sprintf("[2001:db8:1:2::%x]:99", i)} { // a /64 counts as one caller
			if resp := serve(d, "POST", "http://keys.example.com/login", peer, url.Values{"token": {"guess"}}); resp.StatusCode != want {
				t.Fatalf("guess %d from %s: %d, want %d", i, peer, resp.StatusCode, want)
			}
		}
	}
	if resp := serve(d, "GET", "http://keys.example.com/login/callback?state=x", away, nil); resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the way back from a provider is not bounded: %d", resp.StatusCode)
	}
	if resp := serve(d, "POST", "http://keys.example.com/login", home, url.Values{"token": {token}}); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("who has the token cannot log in: %d", resp.StatusCode)
	}
}

// TestLoginsDoNotAddUp lets many people log in through one proxy.
func TestLoginsDoNotAddUp(t *testing.T) {
	d := newDashboard(t, dashboard.Config{Login: roleLogin(dashboard.Viewer), Now: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	for i := range 50 {
		if resp := serve(d, "POST", "http://keys.example.com/login", home, nil); resp.StatusCode != http.StatusSeeOther {
			t.Fatalf("login %d: %d", i, resp.StatusCode)
		}
	}
}

// TestSessionFixation logs in with a cookie that an attacker chose or knows.
func TestSessionFixation(t *testing.T) {
	for _, tls := range []bool{false, true} {
		d := newDashboard(t, dashboard.Config{Login: roleLogin(dashboard.Editor), TLS: tls})
		name := "extauthz_session"
		if tls {
			name = "__Host-extauthz_session"
		}
		logIn := func(cookies ...*http.Cookie) *http.Cookie {
			resp := serve(d, "POST", "http://keys.example.com/login", home, nil, cookies...)
			c := resp.Cookies()[0]
			if c.Name != name || c.Secure != tls || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" {
				t.Errorf("the cookie is %s", c)
			}
			return c
		}
		lets := func(cookies ...*http.Cookie) bool {
			return serve(d, "GET", "http://keys.example.com/state", home, nil, cookies...).StatusCode == http.StatusOK
		}
		chosen := &http.Cookie{Name: name, Value: "CHOSENBYTHEATTACKERXXXXXXX"}
		first := logIn(chosen)
		if first.Value == chosen.Value || lets(chosen) || !lets(first) {
			t.Error("a chosen cookie became a session, or the real one does not work")
		}
		second := logIn(first)
		if lets(first) || !lets(second) {
			t.Error("the session from before the login goes on")
		}
		if lets(second, chosen) || lets(chosen, second) {
			t.Error("with two cookies of the name, one of them is believed")
		}
		if tls && lets(&http.Cookie{Name: "extauthz_session", Value: second.Value}) {
			t.Error("a cookie without the __Host- prefix is believed under https")
		}
		serve(d, "POST", "http://keys.example.com/logout", home, nil, second)
		if lets(second) {
			t.Error("the session goes on after the logout")
		}
	}
}

// TestNoRedirectElsewhere tries to make the dashboard send a browser to another site.
func TestNoRedirectElsewhere(t *testing.T) {
	s := asEditor(t)
	s.add("key_acme", "10.0.0.0/8")
	raw := func(request string) string {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, request, strings.TrimPrefix(s.url, "http://"))
		answer := make([]byte, 4096)
		n, _ := conn.Read(answer)
		return string(answer[:n])
	}
	for _, target := range []string{
		"//evil.example/", "//evil.example/..", "/\\evil.example", "/login?next=//evil.example", "/?return_to=https://evil.example", "/login/callback?next=https://evil.example",
		"/keys//evil.example", "/static/..//evil.example", "http://evil.example/", "/%0d%0aLocation:%20//evil.example", "/keys/x%0d%0aSet-Cookie:%20a=b",
	} {
		for _, method := range []string{"GET", "POST"} {
			answer := raw(method + " " + target + " HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			head, _, _ := strings.Cut(answer, "\r\n\r\n")
			for line := range strings.SplitSeq(head, "\r\n") {
				name, value, _ := strings.Cut(line, ": ")
				if strings.EqualFold(name, "Location") && (!strings.HasPrefix(value, "/") || strings.HasPrefix(value, "//") || strings.HasPrefix(value, "/\\")) || strings.EqualFold(name, "Set-Cookie") && !strings.HasPrefix(value, "extauthz_session=") {
					t.Errorf("%s %s: %s", method, target, line)
				}
			}
		}
	}
	form := url.Values{"next": {"https://evil.example"}, "return_to": {"//evil.example"}}
	if _, h, _ := s.request(http.MethodPost, "/login?next=//evil.example", form, nil, true); h.Get("Location") != "/" {
		t.Errorf("after the login: to %s", h.Get("Location"))
	}
}

// TestEveryAnswerIsGuarded checks the headers of every page, for every role, with and without errors.
func TestEveryAnswerIsGuarded(t *testing.T) {
	s := asEditor(t)
	s.add("key_acme", "10.0.0.0/8")
	paths := []string{
		"/", "/keys/key_acme", "/keys/none", "/refusals", "/check", "/check?key=key_acme", "/state", "/new", "/login", "/login?token=x", "/login/callback", "/logout",
		"/nothing", "/static/", "/static/nothing", "/static/style.css", "/static/app.js", "/favicon.ico", "/keys/", "/keys/key_acme/nothing",
	}
	for path := range changes {
		paths = append(paths, path)
	}
	for _, path := range paths {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"} {
			for _, anonymous := range []bool{false, true} {
				for name, header := range map[string]http.Header{"plain": nil, "cross-site": {"Origin": {"https://evil.example"}}, "other host": {"Host": {"evil.example"}}} {
					status, h, body := s.request(method, path, nil, header, anonymous)
					if path == "/logout" || path == "/login" {
						s.post("/login", nil, 200) // again
					}
					what := fmt.Sprintf("%s %s, %s, anonymous %t: %d", method, path, name, anonymous, status)
					if csp := h.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; frame-ancestors 'none'") {
						t.Errorf("%s: the policy %q", what, csp)
					}
					if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Access-Control-Allow-Origin") != "" {
						t.Errorf("%s: headers %v", what, h)
					}
					if cache := h.Get("Cache-Control"); cache != "no-store" && !strings.HasPrefix(path, "/static/") {
						t.Errorf("%s: may be cached: %q", what, cache)
					}
					if name != "plain" && method == "POST" && status < 400 || name == "other host" && status != http.StatusMisdirectedRequest {
						t.Errorf("%s", what)
					}
					if strings.Contains(body, "10.0.0.0") && (anonymous || name == "other host") {
						t.Errorf("%s shows the key:\n%s", what, body)
					}
				}
			}
		}
	}
	if status, _, body := s.request("GET", "/static/", nil, nil, false); status != http.StatusNotFound || strings.Contains(body, "app.js") {
		t.Errorf("the folder of static files: %d\n%s", status, body)
	}
}

// TestChecksShowNothingOfTheInside: the page of checks shows no error of a store or a limiter.
func TestChecksShowNothingOfTheInside(t *testing.T) {
	var log strings.Builder
	inside := errors.New("dial tcp 10.9.8.7:5432: connection refused")
	d := newDashboard(t, dashboard.Config{
		Login: roleLogin(dashboard.Viewer), Log: slog.New(slog.NewTextHandler(&log, nil)),
		Explain: func(_ context.Context, r dashboard.CheckRequest) (*dashboard.CheckResult, error) {
			if r.KeyID == "key_none" {
				return nil, fmt.Errorf("a store: %w", keystore.ErrNotFound)
			}
			return nil, inside
		},
		State: func(context.Context) dashboard.State { return dashboard.State{Err: inside} },
	})
	cookie := serve(d, "POST", "http://keys.example.com/login", home, nil).Cookies()[0]
	for path, status := range map[string]int{"/check?key=key_acme": 502, "/check?key=key_none": 404, "/check?key=%ff": 422, "/state": 200} {
		resp := serve(d, "GET", "http://keys.example.com"+path, home, nil, cookie)
		body := make([]byte, 1<<16)
		n, _ := resp.Body.Read(body)
		if resp.StatusCode != status || strings.Contains(string(body[:n]), "10.9.8.7") {
			t.Errorf("%s: %d, want %d\n%s", path, resp.StatusCode, status, body[:n])
		}
	}
	if n := strings.Count(log.String(), "10.9.8.7"); n != 2 {
		t.Errorf("the error is logged %d times, want 2:\n%s", n, log.String())
	}
}

// TestOIDCFlood begins more logins than are kept: the newest are kept.
func TestOIDCFlood(t *testing.T) {
	p := newEditorProvider(t)
	s := newOIDCSite(t, p)
	login, err := dashboard.NewOIDCLogin(t.Context(), dashboard.OIDCConfig{
		Issuer: p.URL, ClientID: "extauthz", RedirectURL: s.url + "/login/callback", Editors: []string{"editor@example.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	begin := func() (state string, cookie *http.Cookie) {
		w := httptest.NewRecorder()
		_, _, next, err := login.Begin(w, httptest.NewRequest("POST", "/login", nil))
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(next)
		if err != nil {
			t.Fatal(err)
		}
		return u.Query().Get("state"), w.Result().Cookies()[0]
	}
	comesBack := func(state string, cookie *http.Cookie) bool {
		r := httptest.NewRequest("GET", "/login/callback?error=access_denied&state="+state, nil)
		r.AddCookie(cookie)
		_, _, err := login.Callback(httptest.NewRecorder(), r)
		return err != nil && strings.Contains(err.Error(), "The provider refused")
	}
	first, firstCookie := begin()
	for range 500 {
		begin()
	}
	middle, middleCookie := begin()
	for range 700 {
		begin()
	}
	if comesBack(first, firstCookie) || !comesBack(middle, middleCookie) {
		t.Error("not the oldest logins are forgotten")
	}
}

// TestOIDCMixUp calls back with values of another login, browser or client.
func TestOIDCMixUp(t *testing.T) {
	p := newEditorProvider(t)
	s := newOIDCSite(t, p)
	begin := func(jar http.CookieJar) url.Values {
		s.client.Jar = jar
		_, h, _ := s.request(http.MethodPost, "/login", url.Values{}, nil, false)
		u, err := url.Parse(h.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		return u.Query()
	}
	jar := func() http.CookieJar {
		j, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	mine, theirs := jar(), jar()
	ours, other := begin(mine), begin(theirs)
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if v := ours.Get(name); len(v) < 26 || v == other.Get(name) {
			t.Errorf("%s is %q and %q", name, v, other.Get(name))
		}
	}
	s.client.Jar = mine
	s.get("/login/callback?code=the-code&state="+other.Get("state"), 403) // the state of another browser
	s.get("/login/callback?code=the-code&state="+ours.Get("state"), 403)  // a code that was not for this verifier
	s.get("/login/callback?state="+ours.Get("state"), 403)
	s.get("/keys/key_acme", 200) // the login page
	if status, h, _ := s.request("GET", "/keys/key_acme", nil, nil, false); status != http.StatusSeeOther || h.Get("Location") != "/login" {
		t.Errorf("a failed login let somebody in: %d", status)
	}
	for _, c := range s.client.Jar.Cookies(&url.URL{Scheme: "http", Host: strings.TrimPrefix(s.url, "http://"), Path: "/login/callback"}) {
		if slices.Contains([]string{ours.Get("state"), ours.Get("nonce")}, c.Value) {
			t.Errorf("the cookie %s holds what the address has", c.Name)
		}
	}
}
