package dashboard

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"extauthz/keystore"
)

type checkData struct {
	Offered bool
	Request CheckRequest
	Peer    string
	Err     string
	Result  *CheckResult
}

// checkPage explains the decision on a request. It is a GET: it changes and spends nothing, and its URL can be
// shared.
func (d *Dashboard) checkPage(w http.ResponseWriter, r *http.Request, s *session) {
	value := func(name string) string { return strings.TrimSpace(r.FormValue(name)) }
	data := checkData{Offered: d.cfg.Explain != nil, Peer: value("peer"), Request: CheckRequest{
		KeyID: value("key"), ForwardedFor: value("xff"), Method: value("method"), Host: value("host"), Path: value("path"),
		Permissions: value("permissions"), RateLimitCosts: value("ratelimits"),
	}}
	if !data.Offered || data.Request.KeyID == "" {
		d.render(w, r, http.StatusOK, "check", "Check", s, data)
		return
	}
	if data.Peer != "" {
		var err error
		if data.Request.Peer, err = netip.ParseAddr(data.Peer); err != nil {
			data.Err = "The peer is not an IP address: write one such as 192.0.2.7."
		}
	}
	if keystore.ValidateID(data.Request.KeyID) != nil {
		data.Err = noSuchKey
	}
	status := http.StatusOK
	if data.Err == "" {
		var err error
		if data.Result, err = d.cfg.Explain(r.Context(), data.Request); err != nil {
			status, data.Err = d.checkFailed(r, err)
		}
	}
	if data.Err != "" && status == http.StatusOK {
		status = http.StatusUnprocessableEntity
	}
	d.render(w, r, status, "check", "Check", s, data)
}

const noSuchKey = "There is no key with this id."

// checkFailed returns the message of an error for the user.
func (d *Dashboard) checkFailed(r *http.Request, err error) (status int, text string) {
	if errors.Is(err, keystore.ErrNotFound) {
		return http.StatusNotFound, noSuchKey
	}
	d.cfg.Log.Error("a check failed", "path", r.URL.Path, "error", err)
	return http.StatusBadGateway, "The check cannot be made now. The program's log says why."
}
