package check

import (
	"slices"

	"extauthz/authz"
	"extauthz/ratelimit"
)

// An Outcome is the result of a check. If [Outcome.Allowed] is true, the request goes to the
// upstream with the changes in its fields; otherwise the caller gets a response with
// [Outcome.Status], ResponseHeaders and the body. The zero value refuses the request as
// [authz.Unavailable].
type Outcome struct {
	Code   authz.Code // of the decision
	DryRun bool       // the request goes on, whatever Code is

	// A description of the caller, for metadata; each field may be empty.
	KeyID, ExternalID, ClientAddr string

	// WouldRefuse reports that the key is in report mode, and that its whitelist would have refused
	// the request as [authz.Forbidden].
	WouldRefuse bool

	// Changes to a request that goes on. No header is both set and removed.
	SetHeaders    []Field  // overwrite
	RemoveHeaders []string // may name headers that the request does not have
	Path          string   // the new path, with its query; empty: unchanged

	// RemoveQuery are the raw names of the query parameters that are not in Path, for front ends
	// that cannot replace the path.
	RemoveQuery []string

	// ResponseHeaders are set on the response to the caller, which is the upstream's if the
	// request goes on, and otherwise the refusal. They overwrite.
	ResponseHeaders []Field

	denial    bool // the refusal is not an error, even as Unavailable
	requestID string
	bareBody  bool // the body is only the code, for gRPC callers
	status    int  // 0: the one in refusals
	seen      Observation
}

// Reset makes o the zero Outcome, and keeps the memory of its slices.
func (o *Outcome) Reset() {
	clear(o.SetHeaders)
	clear(o.RemoveHeaders)
	clear(o.RemoveQuery)
	clear(o.ResponseHeaders)
	set, remove, query, response := o.SetHeaders[:0], o.RemoveHeaders[:0], o.RemoveQuery[:0], o.ResponseHeaders[:0]
	*o = Outcome{}
	o.SetHeaders, o.RemoveHeaders, o.RemoveQuery, o.ResponseHeaders = set, remove, query, response
}

// Deny makes o the refusal of a check that panicked, as [authz.Unavailable]. It is a denial, not an
// error, so that no proxy lets a request through that makes extauthz panic.
func (o *Outcome) Deny() {
	o.Reset()
	o.denial = true
}

// Allowed reports whether the request goes on.
func (o *Outcome) Allowed() bool { return o.Code.Allowed() || o.DryRun }

// IsError reports whether the request is refused because no decision could be made. A proxy may
// have a policy for that, such as Envoy's failure_mode_allow.
func (o *Outcome) IsError() bool {
	return !o.Allowed() && !o.denial && refusalCode(o.Code) == authz.Unavailable
}

// ForGRPC reports whether the refusal is for a gRPC caller, whose body is only the code.
func (o *Outcome) ForGRPC() bool { return o.bareBody }

// Status returns the HTTP status of the refusal, from 400 to 599.
func (o *Outcome) Status() int {
	if o.status == 0 {
		return refusals[refusalCode(o.Code)].status
	}
	return o.status
}

// Metadata returns the fields that the proxy may record, such as in its access log. A field with
// an empty value is unknown, and must not be recorded.
func (o *Outcome) Metadata() [6]Field {
	dryRun, wouldRefuse := "", ""
	if o.DryRun {
		dryRun = "true"
	}
	if o.WouldRefuse {
		wouldRefuse = authz.Forbidden.String()
	}
	return [...]Field{
		{"code", o.Code.String()},
		{"key_id", o.KeyID},
		{"external_id", o.ExternalID},
		{"client_address", o.ClientAddr},
		{"dry_run", dryRun},
		{"would_refuse", wouldRefuse},
	}
}

// refusals holds the response for each code except [authz.Valid].
var refusals = [authz.Valid]struct {
	status int  // of the response, unless the configuration overrides it
	keyID  bool // the body has the key's id
}{
	authz.Unavailable:             {503, false},
	authz.MissingKey:              {401, false},
	authz.NotFound:                {401, false},
	authz.Disabled:                {401, true},
	authz.Expired:                 {401, true},
	authz.Forbidden:               {403, true},
	authz.InsufficientPermissions: {403, true},
	authz.RateLimited:             {429, true},
}

// refusalCode returns the code, or Unavailable if it is not the code of a refusal.
func refusalCode(code authz.Code) authz.Code {
	if int(code) < len(refusals) {
		return code
	}
	return authz.Unavailable
}

// answer sets o to the outcome of the decision in its observation. used is the index of the
// source of the secret, or -1.
func (c *Checker) answer(a *Attributes, o *Outcome, used int) {
	if o.seen.Decision.Code.Allowed() || c.dryRun {
		c.allow(a, o, used)
		o.seen.LetThrough = !o.Code.Allowed()
	} else {
		c.refuse(a, o)
	}
}

// allow lets the request through, because of its decision or of a dry run: with the identity of
// the key, without a forged one, and without secrets.
func (c *Checker) allow(a *Attributes, o *Outcome, used int) {
	o.describe()
	o.identify(a)
	c.strip(a, o, used)
	d := &o.seen.Decision
	if d.Limits != nil && !c.dryRun {
		o.ResponseHeaders = appendLimits(o.ResponseHeaders, c.limits, d.Limits)
	}
	// Last, so that o refuses if anything above panics.
	if o.DryRun = c.dryRun; d.Code.Allowed() {
		o.Code = d.Code
	} else {
		o.Code = refusalCode(d.Code)
	}
}

// refuse refuses the request.
func (c *Checker) refuse(a *Attributes, o *Outcome) {
	d := &o.seen.Decision
	o.Code = refusalCode(d.Code)
	o.describe()
	o.status = c.statuses[o.Code]
	contentType, _ := a.Header("content-type")
	add := func(name, value string) { o.ResponseHeaders = append(o.ResponseHeaders, Field{name, value}) }
	if o.bareBody = isGRPC(contentType); !o.bareBody {
		add("content-type", "application/json")
	}
	// Some statuses may be cached, and the next caller's key may be another.
	add("cache-control", "no-store")
	if o.status == 401 {
		add("www-authenticate", c.challenge)
	}
	if d.Limits != nil {
		o.ResponseHeaders = appendLimits(o.ResponseHeaders, c.limits, d.Limits)
	}
	if (o.status == 429 || o.Code == authz.RateLimited) && (d.Limits == nil || !d.Limits.Limited()) {
		add("retry-after", "1") // the time is unknown
	}
}

// appendLimits appends the headers that report the rate limits to a caller.
func appendLimits(headers []Field, style ratelimit.HeaderStyle, limits *ratelimit.Result) []Field {
	for _, h := range style.Headers(*limits) {
		headers = append(headers, Field{h.Name, h.Value})
	}
	return headers
}

// setHeader returns the index in SetHeaders of the header with this name, or -1.
func (o *Outcome) setHeader(name string) int {
	return slices.IndexFunc(o.SetHeaders, func(f Field) bool { return f.Name == name })
}

func (o *Outcome) removeHeader(name string) { o.RemoveHeaders = appendMissing(o.RemoveHeaders, name) }

func appendMissing(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}
