package dashboard

import (
	"net/http"
	"net/netip"
	"strings"
)

type checkData struct {
	Offered bool
	Request CheckRequest
	Peer    string
	Err     string
	Result  *CheckResult
}

// checkPage explains the decision on a request. It is a GET: nothing is changed or spent, and its
// address can be passed on.
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
	status := http.StatusOK
	if data.Err == "" {
		var err error
		if data.Result, err = d.cfg.Explain(r.Context(), data.Request); err != nil {
			data.Err = err.Error()
		}
	}
	if data.Err != "" {
		status = http.StatusUnprocessableEntity
	}
	d.render(w, r, status, "check", "Check", s, data)
}
