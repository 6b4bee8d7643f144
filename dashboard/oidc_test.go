package dashboard_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"extauthz/dashboard"
	"extauthz/dashboard/oidctest"
)

// lateLogin is a login that is set once the site's address is known.
type lateLogin struct{ dashboard.Login }

// newEditorProvider returns a provider whose user is an editor.
func newEditorProvider(t *testing.T) *oidctest.Provider {
	t.Helper()
	p := oidctest.Start(t)
	p.Claims = map[string]any{"email": "editor@example.com", "email_verified": true}
	return p
}

// hmacJWS returns the claims, signed with the key by HMAC.
func hmacJWS(t *testing.T, key []byte, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","kid":"1"}`)) + "." + encode(payload)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}

func newOIDCSite(t *testing.T, p *oidctest.Provider) *site {
	t.Helper()
	late := &lateLogin{}
	s := newSite(t, late)
	login, err := dashboard.NewOIDCLogin(t.Context(), dashboard.OIDCConfig{
		Issuer: p.URL, ClientID: "extauthz", ClientSecret: "secret", RedirectURL: s.url + "/login/callback",
		Viewers: []string{"viewer@example.com", "auditors"}, Editors: []string{"Editor@example.com", "kim@example.com", "platform"},
	})
	if err != nil {
		t.Fatal(err)
	}
	late.Login = login
	s.add("key_acme", "10.0.0.0/8")
	return s
}

func TestOIDCRoles(t *testing.T) {
	for name, c := range map[string]struct {
		claims map[string]any
		login  int // status
		edit   int
	}{
		"an editor":                 {map[string]any{"email": "editor@example.com", "email_verified": true}, 200, 200},
		"a viewer":                  {map[string]any{"email": "viewer@example.com", "email_verified": true}, 200, 403},
		"a group of editors":        {map[string]any{"groups": []string{"staff", "platform"}}, 200, 200},
		"a group of viewers":        {map[string]any{"groups": []string{"auditors"}}, 200, 403},
		"an address not verified":   {map[string]any{"email": "editor@example.com"}, 403, 401},
		"an address as a group":     {map[string]any{"groups": []string{"Editor@example.com"}}, 403, 401},
		"somebody else":             {map[string]any{"email": "mallory@example.com", "email_verified": true}, 403, 401},
		"nobody in particular":      {nil, 403, 401},
		"a group as an address":     {map[string]any{"email": "platform", "email_verified": true}, 403, 401},
		"an address with a suffix":  {map[string]any{"email": "editor@example.com.evil.example", "email_verified": true}, 403, 401},
		"another letter":            {map[string]any{"email": "v\u0131ewer@example.com", "email_verified": true}, 403, 401},
		"the Kelvin sign":           {map[string]any{"email": "\u212aim@example.com", "email_verified": true}, 403, 401},
		"for us among others":       {map[string]any{"email": "editor@example.com", "email_verified": true, "aud": []string{"extauthz", "other"}, "azp": "extauthz"}, 200, 200},
		"a group with another case": {map[string]any{"groups": []string{"PLATFORM"}}, 403, 401},
	} {
		t.Run(name, func(t *testing.T) {
			p := oidctest.Start(t)
			p.Claims = c.claims
			s := newOIDCSite(t, p)
			s.post("/login", url.Values{}, c.login)
			form := url.Values{}
			if c.edit != 401 {
				if m := versionField.FindStringSubmatch(s.get("/keys/key_acme", 200)); m != nil {
					form.Set("version", m[1])
				}
			}
			s.post("/keys/key_acme/disable", form, c.edit)
		})
	}
}

func TestOIDCRefuses(t *testing.T) {
	editor := map[string]any{"email": "editor@example.com", "email_verified": true}
	with := func(name string, value any) map[string]any {
		c := maps.Clone(editor)
		c[name] = value
		return c
	}
	for name, set := range map[string]func(p *oidctest.Provider){
		"another nonce":     func(p *oidctest.Provider) { p.Claims = with("nonce", "another") },
		"no nonce":          func(p *oidctest.Provider) { p.Claims = with("nonce", "") },
		"another audience":  func(p *oidctest.Provider) { p.Claims = with("aud", "another") },
		"a second audience": func(p *oidctest.Provider) { p.Claims = with("aud", []string{"extauthz", "another"}) },
		"another party":     func(p *oidctest.Provider) { p.Claims = with("azp", "another") },
		"signed by the secret": func(p *oidctest.Provider) {
			p.Sign = func(c map[string]any) string { return hmacJWS(t, []byte("secret"), c) }
		},
		"signed by a public key": func(p *oidctest.Provider) {
			p.Sign = func(c map[string]any) string { return hmacJWS(t, p.PublicKeyPEM(), c) }
		},
		"another issuer": func(p *oidctest.Provider) { p.Claims = with("iss", "https://evil.example") },
		"an old token":   func(p *oidctest.Provider) { p.Claims = with("exp", time.Now().Add(-time.Hour).Unix()) },
		"no signature": func(p *oidctest.Provider) {
			p.Sign = func(claims map[string]any) string {
				payload, err := json.Marshal(claims)
				if err != nil {
					t.Fatal(err)
				}
				encode := base64.RawURLEncoding.EncodeToString
				return encode([]byte(`{"alg":"none"}`)) + "." + encode(payload) + "."
			}
		},
		"another key": func(p *oidctest.Provider) {
			other, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			p.Sign = func(claims map[string]any) string { return p.JWS(other, claims) }
		},
		"no token": func(p *oidctest.Provider) { p.Sign = func(map[string]any) string { return "" } },
	} {
		t.Run(name, func(t *testing.T) {
			p := oidctest.Start(t)
			p.Claims = editor
			set(p)
			s := newOIDCSite(t, p)
			page := s.post("/login", url.Values{}, 403)
			if strings.Contains(page, "id_token") || strings.Contains(page, "nonce") {
				t.Errorf("the page tells of the inside:\n%s", page)
			}
			s.post("/keys/key_acme/disable", url.Values{}, 401)
		})
	}
}

// TestOIDCState calls back with values that the provider did not send.
func TestOIDCState(t *testing.T) {
	p := oidctest.Start(t)
	p.Claims = map[string]any{"email": "editor@example.com", "email_verified": true}
	s := newOIDCSite(t, p)
	begin := func() *url.URL {
		_, h, _ := s.request(http.MethodPost, "/login", url.Values{}, nil, false)
		u, err := url.Parse(h.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	s.get("/login/callback?code=the-code&state=", 403)
	s.get("/login/callback?code=the-code&state=guess", 403)

	state := begin().Query().Get("state")
	other, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	mine := s.client.Jar
	s.client.Jar = other // a link that was sent to another user
	s.get("/login/callback?code=the-code&state="+state, 403)
	s.client.Jar = mine
	s.get("/login/callback?code=the-code&state="+state, 403) // it works only once, even if it failed

	u := begin()
	r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, u.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want(t, s.do(r, 200), "Logged in", "Go on to the keys")
	want(t, s.get("/keys/key_acme", 200), "editor@example.com")
	_, h, _ := s.request(http.MethodGet, "/login", nil, nil, false)
	if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' "+p.URL) {
		t.Errorf("the login page's policy is %s", csp)
	}
}
