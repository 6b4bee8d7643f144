package config

import (
	"net/netip"
	"net/url"
	"path/filepath"

	"gopkg.in/yaml.v3"

	"extauthz/strictyaml"
)

// Dashboard configures the page that `extauthz dashboard` serves.
type Dashboard struct {
	// Listen is host:port. An address that other machines can reach requires login: oidc.
	// Default: 127.0.0.1:9194.
	Listen Address

	// URL is the URL under which browsers reach the dashboard, if it is not that of the listener,
	// such as https://keys.example.com, without a path. Default: http:// and the listener's address.
	URL string

	TLS   DashboardTLS
	Login string // token or oidc; default: token
	OIDC  OIDC
}

// The values of [Dashboard.Login].
const (
	LoginByToken = "token"
	LoginByOIDC  = "oidc"
)

// DashboardTLS names the files of the dashboard's certificate: both or neither. They are read for
// each connection, so that they can be replaced. Relative paths start from the configuration file's
// folder.
type DashboardTLS struct {
	CertFile, KeyFile string // PEM
}

// OIDC configures the login with OpenID Connect. Issuer and ClientID are required with login: oidc.
type OIDC struct {
	Issuer       string
	ClientID     string
	ClientSecret string
	Scopes       []string // in addition to openid; default: email, profile

	// Viewers may view keys, and Editors may also change them. An entry is a verified email
	// address, or a name in the groups claim, which contains no @. Nobody else may log in.
	Viewers, Editors []string
}

func (r *reader) dashboard(n *yaml.Node) {
	d := &r.c.Dashboard
	r.dashboardNode = n
	r.Mapping(n, strictyaml.Fields{
		"listen": func(n *yaml.Node) { r.address(n, ParseAddress, &d.Listen) },
		"url": func(n *yaml.Node) {
			r.text(n, &d.URL, "https://keys.example.com")
			u, err := url.Parse(d.URL)
			if d.URL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil) {
				r.Errorf(n, "%q is not the URL of a site: write one such as https://keys.example.com, without a path", written(n))
			}
		},
		"tls": func(n *yaml.Node) {
			r.Mapping(n, strictyaml.Fields{
				"cert_file": func(n *yaml.Node) { r.path(n, &d.TLS.CertFile, "dashboard.crt") },
				"key_file":  func(n *yaml.Node) { r.path(n, &d.TLS.KeyFile, "dashboard.key") },
			})
			if (d.TLS.CertFile == "") != (d.TLS.KeyFile == "") {
				r.Errorf(n, "one of cert_file and key_file is missing: write both")
			}
		},
		"login": func(n *yaml.Node) { r.oneOf(n, &d.Login, LoginByToken, LoginByOIDC) },
		"oidc":  r.oidc,
	})
}

func (r *reader) oidc(n *yaml.Node) {
	o := &r.c.Dashboard.OIDC
	r.Mapping(n, strictyaml.Fields{
		"issuer":        func(n *yaml.Node) { r.text(n, &o.Issuer, "https://accounts.example.com") },
		"client_id":     func(n *yaml.Node) { r.text(n, &o.ClientID, "extauthz") },
		"client_secret": func(n *yaml.Node) { r.text(n, &o.ClientSecret, "${OIDC_CLIENT_SECRET}") },
		"scopes":        func(n *yaml.Node) { r.textList(n, &o.Scopes) },
		"viewers":       func(n *yaml.Node) { r.textList(n, &o.Viewers) },
		"editors":       func(n *yaml.Node) { r.textList(n, &o.Editors) },
	})
}

// checkDashboard checks what depends on several fields.
func (r *reader) checkDashboard() {
	d := r.c.Dashboard
	if r.dashboardNode == nil {
		return
	}
	if d.Login == LoginByOIDC {
		if d.OIDC.Issuer == "" || d.OIDC.ClientID == "" {
			r.Errorf(r.dashboardNode, "login: oidc requires issuer and client_id: write `oidc: {issuer: https://accounts.example.com, client_id: extauthz, editors: [you@example.com]}`")
		} else if len(d.OIDC.Viewers)+len(d.OIDC.Editors) == 0 {
			r.Errorf(r.dashboardNode, "oidc: nobody may log in: write viewers or editors, such as `editors: [you@example.com]`")
		}
	}
	if err := d.Reachable(); err != "" {
		r.Errorf(r.dashboardNode, "%s", err)
	}
}

// Reachable returns why the dashboard must not listen on its address, or "" if it may.
func (d Dashboard) Reachable() string {
	if d.Login != LoginByOIDC && !loopback(d.Listen) {
		return "other machines can reach this address, and login: token is for one person on this machine: write login: oidc, or listen: 127.0.0.1:9194"
	}
	return ""
}

// loopback reports whether only this machine can reach the address. It is false for unix sockets,
// which browsers cannot open.
func loopback(a Address) bool {
	if ap, err := netip.ParseAddrPort(a.Address); err == nil {
		return ap.Addr().Unmap().IsLoopback()
	}
	return a.Network == "tcp" && a.Local()
}

// text reads text that is not empty.
func (r *reader) text(n *yaml.Node, to *string, example string) {
	s, ok := value(r, n, r.String)
	switch {
	case !ok:
	case s == "":
		r.Errorf(n, "empty: write one such as %s, or omit the field", example)
	default:
		*to = s
	}
}

// path reads a path, which starts from the configuration file's folder if it is relative.
func (r *reader) path(n *yaml.Node, to *string, example string) {
	var s string
	if r.text(n, &s, example); s != "" {
		*to = r.resolve(s)
	}
}

// resolve returns a path in the file, which starts from the configuration file's folder if it is relative.
func (r *reader) resolve(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(r.File), path)
}

// textList reads a list of text, none of it empty.
func (r *reader) textList(n *yaml.Node, to *[]string) {
	*to = nil // replace the default
	r.Sequence(n, func(n *yaml.Node) {
		var s string
		r.text(n, &s, "you@example.com")
		if s != "" {
			*to = append(*to, s)
		}
	})
}
