package dashboard_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"extauthz/dashboard"
)

// A provider is an OpenID provider that vouches for whomever a test says.
type provider struct {
	*httptest.Server
	t      *testing.T
	key    *rsa.PrivateKey
	claims map[string]any // beside those of every token
	sign   func(claims map[string]any) string

	challenge, nonce string // of the login under way
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{t: t, key: key}
	p.sign = func(claims map[string]any) string { return p.jws(p.key, claims) }
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		p.json(w, map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		p.json(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &p.key.PublicKey, KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("GET /auth", func(w http.ResponseWriter, r *http.Request) {
		p.challenge, p.nonce = r.FormValue("code_challenge"), r.FormValue("nonce")
		if r.FormValue("code_challenge_method") != "S256" || !strings.Contains(r.FormValue("scope"), "openid") {
			t.Errorf("the request for a code is %s", r.URL)
		}
		http.Redirect(w, r, r.FormValue("redirect_uri")+"?code=the-code&state="+url.QueryEscape(r.FormValue("state")), http.StatusSeeOther)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if r.FormValue("code") != "the-code" || base64.RawURLEncoding.EncodeToString(sum[:]) != p.challenge {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		claims := map[string]any{
			"iss": p.URL, "aud": "extauthz", "sub": "1234", "nonce": p.nonce,
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		}
		maps.Copy(claims, p.claims)
		p.json(w, map[string]any{"access_token": "unused", "token_type": "Bearer", "id_token": p.sign(claims)})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) json(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		p.t.Error(err)
	}
}

func (p *provider) jws(key *rsa.PrivateKey, claims map[string]any) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

// lateLogin is a login that is set once the site's address is known.
type lateLogin struct{ dashboard.Login }

func newOIDCSite(t *testing.T, p *provider) *site {
	t.Helper()
	late := &lateLogin{}
	s := newSite(t, late)
	login, err := dashboard.NewOIDCLogin(t.Context(), dashboard.OIDCConfig{
		Issuer: p.URL, ClientID: "extauthz", ClientSecret: "secret", RedirectURL: s.url + "/login/callback",
		Viewers: []string{"viewer@example.com", "auditors"}, Editors: []string{"Editor@example.com", "platform"},
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
		"a group with another case": {map[string]any{"groups": []string{"PLATFORM"}}, 403, 401},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.claims = c.claims
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
	for name, set := range map[string]func(p *provider){
		"another nonce":    func(p *provider) { p.claims = with("nonce", "another") },
		"no nonce":         func(p *provider) { p.claims = with("nonce", "") },
		"another audience": func(p *provider) { p.claims = with("aud", "another") },
		"another issuer":   func(p *provider) { p.claims = with("iss", "https://evil.example") },
		"an old token":     func(p *provider) { p.claims = with("exp", time.Now().Add(-time.Hour).Unix()) },
		"no signature": func(p *provider) {
			p.sign = func(claims map[string]any) string {
				payload, err := json.Marshal(claims)
				if err != nil {
					p.t.Fatal(err)
				}
				encode := base64.RawURLEncoding.EncodeToString
				return encode([]byte(`{"alg":"none"}`)) + "." + encode(payload) + "."
			}
		},
		"another key": func(p *provider) {
			other, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				p.t.Fatal(err)
			}
			p.sign = func(claims map[string]any) string { return p.jws(other, claims) }
		},
		"no token": func(p *provider) { p.sign = func(map[string]any) string { return "" } },
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.claims = editor
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

// TestOIDCState comes back in ways that the provider did not send anyone.
func TestOIDCState(t *testing.T) {
	p := newProvider(t)
	p.claims = map[string]any{"email": "editor@example.com", "email_verified": true}
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
	s.client.Jar = other // a link that was sent to somebody else
	s.get("/login/callback?code=the-code&state="+state, 403)
	s.client.Jar = mine
	s.get("/login/callback?code=the-code&state="+state, 403) // it works once, also where it failed

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
