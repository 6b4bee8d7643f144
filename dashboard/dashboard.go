// Package dashboard is a web page on which the owners of keys, and the people on call for them,
// see who uses which key from where, why it was refused, and change it. It is server-rendered and
// works without JavaScript.
package dashboard

import (
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"extauthz/audit"
	"extauthz/keystore"
	"extauthz/usage"
)

// Config configures a [Dashboard]. Keys, Login and Hosts are required.
type Config struct {
	// Keys reads and changes the keys. The context of each change names its user, for
	// [keystore.Actor].
	Keys keystore.Editor

	// Usage is the recorded usage of the keys; nil if it is not recorded.
	Usage usage.Store

	// History returns the last edits of a key, newest first; nil if there is no trail.
	History func(ctx context.Context, keyID string, limit int) ([]audit.Edit, error)

	// Explain explains the decision on a request; nil if the page of checks is not offered. An error
	// other than keystore.ErrNotFound is logged and not shown.
	Explain func(ctx context.Context, r CheckRequest) (*CheckResult, error)

	// SecretPrefix is how new secrets begin, before an underscore. Default: sk.
	SecretPrefix string

	// Curl returns a command line that sends a request with the secret to
	// http://127.0.0.1:10000/; nil: one that sends it in the header x-api-key.
	Curl func(secret string) string

	// State reports the state of the store and its servers; nil for none.
	State func(ctx context.Context) State

	// Login decides who may log in.
	Login Login

	// Hosts are the accepted values of the Host header, such as 127.0.0.1:9194. Any
	// other is refused, because another site's name may resolve to this address (DNS rebinding).
	Hosts []string

	// TLS reports that browsers reach the dashboard by https.
	TLS bool

	Log *slog.Logger     // nil: nothing is logged
	Now func() time.Time // nil: time.Now
}

// A CheckRequest is a request as Envoy would receive it.
type CheckRequest struct {
	KeyID                       string
	Peer                        netip.Addr // the zero Addr for none
	ForwardedFor                string     // the line of x-forwarded-for; empty for none
	Method, Host, Path          string
	Permissions, RateLimitCosts string // as in Envoy's context extensions; empty: those of the configuration's routes
}

// A CheckResult explains a decision.
type CheckResult struct {
	Code, ClientAddress, ClientAddressFrom, ClientAddressError string
	Allowed                                                    bool
	Steps                                                      []CheckStep
	Notes                                                      []string
}

// A CheckStep is one check of a decision.
type CheckStep struct {
	Code, Detail string
	Ran, Holds   bool
}

// A State is the state of the store and the servers.
type State struct {
	Store    string // its kind or path
	Err      error  // why the store does not answer; nil if it does
	Replicas []Replica
}

// A Replica is a server that reported in the last minute.
type Replica struct {
	Name, Version string
	ChannelUp     bool
	LastReport    time.Time
}

// A Dashboard serves the pages. Make one with [New]. It is safe for concurrent use.
type Dashboard struct {
	cfg      Config
	handler  http.Handler
	sessions sessions
	attempts attempts
	pages    *pages
}

//go:embed templates static
var files embed.FS

// New returns a dashboard, or every error in cfg, joined.
func New(cfg Config) (*Dashboard, error) {
	var errs []error
	if cfg.Keys == nil {
		errs = append(errs, errors.New("dashboard: no Keys"))
	}
	if cfg.Login == nil {
		errs = append(errs, errors.New("dashboard: no Login: anyone could change keys"))
	}
	if len(cfg.Hosts) == 0 {
		errs = append(errs, errors.New("dashboard: no Hosts"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.SecretPrefix == "" {
		cfg.SecretPrefix = "sk"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p, err := parsePages(files)
	if err != nil {
		return nil, err
	}
	d := &Dashboard{cfg: cfg, pages: p}
	d.sessions.now, d.sessions.secure = cfg.Now, cfg.TLS
	static, err := fs.Sub(files, "static")
	if err != nil {
		return nil, err
	}
	d.handler = d.guard(d.routes(static))
	return d, nil
}

// ServeHTTP implements [http.Handler].
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.handler.ServeHTTP(w, r) }

// routes returns the handlers of every page. Changes are POSTs, and only for editors.
func (d *Dashboard) routes(static fs.FS) http.Handler {
	mux := http.NewServeMux()
	for _, name := range []string{"style.css", "app.js"} {
		mux.HandleFunc("GET /static/"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, static, name) })
	}
	mux.HandleFunc("GET /login", d.loginPage)
	mux.HandleFunc("POST /login", d.login)
	mux.HandleFunc("GET /login/callback", d.loginCallback)
	mux.HandleFunc("POST /logout", d.logout)

	view := func(pattern string, page func(http.ResponseWriter, *http.Request, *session)) {
		mux.HandleFunc(pattern, d.require(Viewer, page))
	}
	view("GET /{$}", d.keysPage)
	view("GET /keys/{id}", d.keyPage)
	view("GET /refusals", d.refusalsPage)
	view("GET /check", d.checkPage)
	view("GET /state", d.statePage)

	edit := func(pattern string, action func(http.ResponseWriter, *http.Request, *session)) {
		mux.HandleFunc(pattern, d.require(Editor, action))
	}
	edit("GET /new", d.newKeyPage)
	edit("POST /new", d.newKey)
	edit("POST /keys/{id}/evaluate", d.evaluate)
	for name, form := range editForms {
		edit("POST /keys/{id}/"+name, func(w http.ResponseWriter, r *http.Request, s *session) { d.edit(w, r, s, form) })
	}
	edit("POST /keys/{id}/rotate", d.rotate)
	return mux
}

// Serve limits, for an http.Server in front of a [Dashboard].
const (
	ReadTimeout  = 30 * time.Second
	WriteTimeout = time.Minute
	IdleTimeout  = 2 * time.Minute
	maxForm      = 1 << 20 // bytes
)

// NewHTTPServer returns a server of the handler with timeouts that suit it; tlsConfig may be nil.
func NewHTTPServer(h http.Handler, tlsConfig *tls.Config) *http.Server {
	return &http.Server{
		Handler: h, TLSConfig: tlsConfig, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: ReadTimeout,
		WriteTimeout: WriteTimeout, IdleTimeout: IdleTimeout, MaxHeaderBytes: 32 << 10,
	}
}
