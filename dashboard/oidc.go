package dashboard

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// OIDCConfig configures a login by OpenID Connect. Issuer, ClientID and RedirectURL are required.
type OIDCConfig struct {
	Issuer, ClientID, ClientSecret string
	RedirectURL                    string   // the dashboard's /login/callback, as browsers reach it
	Scopes                         []string // beside openid; empty: email, profile

	// Viewers and Editors are the users who may log in: verified email addresses, and names in the groups
	// claim, which have no @ in them. Nobody else does.
	Viewers, Editors []string

	Now func() time.Time // nil: time.Now
}

// An OIDCLogin lets in whom an OpenID provider vouches for, by the authorization code flow with
// PKCE (RFC 7636). Make one with [NewOIDCLogin].
type OIDCLogin struct {
	cfg      OIDCConfig
	oauth    oauth2.Config
	verifier *oidc.IDTokenVerifier

	mu      sync.Mutex
	pending map[string]pendingLogin // by state
}

// A pendingLogin is one whose user is at the provider's.
type pendingLogin struct {
	nonce, verifier string
	browser         [sha256.Size]byte // of the cookie that only this browser has
	expires         time.Time
}

const (
	stateCookie  = "extauthz_login"
	stateTimeout = 10 * time.Minute
	maxPending   = 1000
)

// NewOIDCLogin asks the issuer for its settings and keys. It returns an error if the issuer does
// not answer, or the configuration cannot be used.
func NewOIDCLogin(ctx context.Context, cfg OIDCConfig) (*OIDCLogin, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if len(cfg.Scopes) == 0 {
		cfg.Scopes = []string{"email", "profile"}
	}
	provider, err := oidc.NewProvider(ctx, cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("oidc: the issuer %s: %w", cfg.Issuer, err)
	}
	return &OIDCLogin{
		cfg: cfg,
		oauth: oauth2.Config{
			ClientID: cfg.ClientID, ClientSecret: cfg.ClientSecret, RedirectURL: cfg.RedirectURL,
			Endpoint: provider.Endpoint(), Scopes: append([]string{oidc.ScopeOpenID}, cfg.Scopes...),
		},
		verifier: provider.Verifier(&oidc.Config{ClientID: cfg.ClientID, Now: cfg.Now}),
		pending:  make(map[string]pendingLogin),
	}, nil
}

// Page implements [Login].
func (l *OIDCLogin) Page(*http.Request) LoginPage {
	page := LoginPage{Button: "Log in with " + l.cfg.Issuer}
	if u, err := url.Parse(l.cfg.Issuer); err == nil && u.Host != "" {
		page.Button = "Log in with " + u.Host
	}
	if u, err := url.Parse(l.oauth.Endpoint.AuthURL); err == nil {
		page.FormTarget = u.Scheme + "://" + u.Host
	}
	return page
}

// Begin implements [Login]: it sends the user to the provider.
func (l *OIDCLogin) Begin(w http.ResponseWriter, _ *http.Request) (user string, role Role, next string, err error) {
	state, browser := rand.Text(), rand.Text()
	p := pendingLogin{
		nonce: rand.Text(), verifier: oauth2.GenerateVerifier(), browser: sha256.Sum256([]byte(browser)), expires: l.cfg.Now().Add(stateTimeout),
	}
	l.mu.Lock()
	l.makeRoom()
	l.pending[state] = p
	l.mu.Unlock()
	// Lax, because the provider sends the user back.
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // secure where the dashboard is reached by https
		Name: stateCookie, Value: browser, Path: "/login/callback", MaxAge: int(stateTimeout.Seconds()),
		HttpOnly: true, Secure: strings.HasPrefix(l.cfg.RedirectURL, "https:"), SameSite: http.SameSiteLaxMode,
	})
	return "", Nobody, l.oauth.AuthCodeURL(state, oidc.Nonce(p.nonce), oauth2.S256ChallengeOption(p.verifier)), nil
}

// makeRoom forgets logins that are over and, if there are too many, the oldest. l.mu is held.
func (l *OIDCLogin) makeRoom() {
	now, oldest := l.cfg.Now(), ""
	for s, p := range l.pending {
		if !now.Before(p.expires) {
			delete(l.pending, s)
		} else if oldest == "" || p.expires.Before(l.pending[oldest].expires) {
			oldest = s
		}
	}
	if len(l.pending) >= maxPending {
		delete(l.pending, oldest)
	}
}

// asciiLower lowers the case of ASCII letters alone: other letters that fold to them, such as the Kelvin
// sign, are part of another address.
func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// Callback implements [Login]: the provider has sent the user back.
func (l *OIDCLogin) Callback(_ http.ResponseWriter, r *http.Request) (user string, role Role, err error) {
	p, err := l.take(r)
	if err != nil {
		return "", Nobody, err
	}
	if r.FormValue("error") != "" {
		return "", Nobody, LoginError("The provider refused the login.")
	}
	token, err := l.oauth.Exchange(r.Context(), r.FormValue("code"), oauth2.VerifierOption(p.verifier))
	if err != nil {
		return "", Nobody, fmt.Errorf("the provider rejected the code: %w", withoutBody(err))
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return "", Nobody, errors.New("the provider sent no id_token")
	}
	id, err := l.verifier.Verify(r.Context(), raw)
	if err != nil {
		return "", Nobody, fmt.Errorf("the id_token: %w", err)
	}
	if err := l.checkParty(id); err != nil {
		return "", Nobody, err
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(p.nonce)) != 1 {
		return "", Nobody, errors.New("the id_token has another nonce")
	}
	return l.roleOf(id)
}

// checkParty checks that a token that names an authorized party names us, and that one for several
// audiences does (OpenID Connect Core 3.1.3.7).
func (l *OIDCLogin) checkParty(id *oidc.IDToken) error {
	var claims struct {
		Party string `json:"azp"`
	}
	if err := id.Claims(&claims); err != nil {
		return fmt.Errorf("the id_token's claims: %w", err)
	}
	if claims.Party != l.cfg.ClientID && (claims.Party != "" || len(id.Audience) > 1) {
		return errors.New("the id_token is for another party")
	}
	return nil
}

// withoutBody keeps what the provider answered, which may hold anything, out of the log.
func withoutBody(err error) error {
	if retrieve, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return fmt.Errorf("%s: %s", retrieve.Response.Status, retrieve.ErrorCode)
	}
	return err
}

// take returns the login that the request continues, which works once.
func (l *OIDCLogin) take(r *http.Request) (pendingLogin, error) {
	const stale = LoginError("This login is over, or was begun in another browser. Begin again.")
	state := r.FormValue("state")
	l.mu.Lock()
	p, ok := l.pending[state]
	delete(l.pending, state)
	l.mu.Unlock()
	cookie, err := r.Cookie(stateCookie)
	if !ok || err != nil || !l.cfg.Now().Before(p.expires) {
		return p, stale
	}
	browser := sha256.Sum256([]byte(cookie.Value))
	if subtle.ConstantTimeCompare(browser[:], p.browser[:]) != 1 {
		return p, stale
	}
	return p, nil
}

// roleOf returns who the token is about, and what the lists let them do.
func (l *OIDCLogin) roleOf(id *oidc.IDToken) (user string, role Role, err error) {
	var claims struct {
		Email    string   `json:"email"`
		Verified bool     `json:"email_verified"`
		Groups   []string `json:"groups"`
	}
	if err := id.Claims(&claims); err != nil {
		return "", Nobody, fmt.Errorf("the id_token's claims: %w", err)
	}
	email := ""
	user = "subject " + id.Subject
	if claims.Email != "" && claims.Verified {
		user, email = claims.Email, claims.Email
	}
	in := func(list []string) bool {
		return slices.ContainsFunc(list, func(name string) bool {
			if strings.Contains(name, "@") {
				return email != "" && asciiLower(name) == asciiLower(email)
			}
			return slices.Contains(claims.Groups, name)
		})
	}
	switch {
	case in(l.cfg.Editors):
		return user, Editor, nil
	case in(l.cfg.Viewers):
		return user, Viewer, nil
	}
	sum := sha256.Sum256([]byte(id.Subject))
	return "", Nobody, fmt.Errorf("%w (subject %s)", LoginError("You are known, but not on the list of those who may use this dashboard."), hex.EncodeToString(sum[:4]))
}
