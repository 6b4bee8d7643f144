package envoy

import (
	"slices"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"extauthz/check"
)

// attributes are the parts of a check request that a decision uses, however it was encoded.
type attributes struct{ check.Attributes }

type field = check.Field

// read fills a, which is empty, from the generated type. Any part of req may be missing.
func (a *attributes) read(req *authv3.CheckRequest) {
	context := req.GetAttributes()
	http := context.GetRequest().GetHttp()
	a.ID = requestID(http.GetId())
	a.Peer = context.GetSource().GetAddress().GetSocketAddress().GetAddress()
	a.Method, a.Path, a.Host, a.Scheme = http.GetMethod(), http.GetPath(), http.GetHost(), http.GetScheme()
	for name, value := range context.GetContextExtensions() {
		a.Extensions = append(a.Extensions, field{Name: name, Value: value})
	}
	for name, value := range http.GetHeaders() {
		a.Headers = append(a.Headers, field{Name: name, Value: value})
	}
	a.orderHeaders()
	rawPath := ""
	for _, h := range http.GetHeaderMap().GetHeaders() {
		value := h.GetValue()
		if raw := string(h.GetRawValue()); raw != "" {
			value = check.CleanUTF8(raw)
			if h.GetKey() == pathHeader {
				rawPath = raw
			}
		}
		a.Headers = append(a.Headers, field{Name: h.GetKey(), Value: value})
	}
	a.setPathCleaned(rawPath)
}

// setPathCleaned sets PathCleaned. raw is the :path header as the caller sent it, if Envoy reports
// it (encode_raw_headers).
func (a *attributes) setPathCleaned(raw string) {
	a.PathCleaned = raw != a.Path && strings.Contains(a.Path, "!")
}

// requestID returns the id of a request if it has the form of Envoy's ids: a random number of 64
// bits that the caller cannot choose and that stays the same when Envoy retries a check. No other
// id is used: another proxy might let its caller choose it, or repeat it.
func requestID(id string) string {
	if len(id) < 10 || len(id) > 20 {
		return ""
	}
	for i := range len(id) {
		if id[i] < '0' || id[i] > '9' {
			return ""
		}
	}
	return id
}

// orderHeaders sorts headers from a map if their order matters: if two names may differ in case
// only. Envoy sends no such names.
func (a *attributes) orderHeaders() {
	if slices.ContainsFunc(a.Headers, func(f field) bool { return hasUpper(f.Name) }) {
		slices.SortFunc(a.Headers, func(f, g field) int { return strings.Compare(f.Name, g.Name) })
	}
}

func hasUpper(s string) bool {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return true
		}
	}
	return false
}
