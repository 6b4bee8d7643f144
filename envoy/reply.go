package envoy

import (
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"extauthz/authz"
	"extauthz/ratelimit"
)

// The headers that say upstream who is calling.
const (
	identityPrefix   = "x-extauthz-"
	keyIDHeader      = "x-extauthz-key-id"
	clientAddrHeader = "x-extauthz-client-address"
	externalIDHeader = "x-extauthz-external-id"
)

const maxRequestID = 128 // bytes of x-request-id that are repeated to the caller

// refusals says how each code but [authz.Valid] is told to the caller.
var refusals = [authz.Valid]struct {
	status int        // of the HTTP response, where the configuration says nothing else
	rpc    codes.Code // of the check's own status; never OK, which would allow
	keyID  bool       // the caller is told the key's id
}{
	authz.Unavailable:             {503, codes.Unavailable, false},
	authz.MissingKey:              {401, codes.Unauthenticated, false},
	authz.NotFound:                {401, codes.Unauthenticated, false},
	authz.Disabled:                {401, codes.Unauthenticated, true},
	authz.Expired:                 {401, codes.Unauthenticated, true},
	authz.Forbidden:               {403, codes.PermissionDenied, true},
	authz.InsufficientPermissions: {403, codes.PermissionDenied, true},
	authz.RateLimited:             {429, codes.ResourceExhausted, true},
}

// A reply is what Envoy is told. Its zero value refuses, as [authz.Unavailable].
type reply struct {
	code       authz.Code
	dryRun     bool   // the request goes on, whatever the code is
	keyID      string // of the key that was found, for the metadata
	externalID string
	clientAddr string // empty for none
	requestID  string
	bareBody   bool     // the body is the code alone, as gRPC callers need it
	status     int      // of the HTTP response; 0: as refusals says
	headers    []field  // set on the request where it is allowed, else on the response
	onResponse []field  // set on the upstream's response where the request is allowed
	remove     []string // headers that do not go upstream
	dropQuery  []string // raw names of query parameters that do not go upstream
}

func (r *reply) reset() {
	clear(r.headers)
	clear(r.onResponse)
	clear(r.remove)
	clear(r.dropQuery)
	*r = reply{headers: r.headers[:0], onResponse: r.onResponse[:0], remove: r.remove[:0], dropQuery: r.dropQuery[:0]}
}

// allows reports whether the request goes on.
func (r *reply) allows() bool { return r.code.Allowed() || r.dryRun }

// answer makes r the reply to what was decided. source is where the secret came from.
func (r *reply) answer(c *call, s *Server, source int) {
	o := &c.seen
	if o.Decision.Code.Allowed() || s.dryRun {
		r.allow(c, s, source)
		o.LetThrough = !r.code.Allowed()
	} else {
		r.refuse(c, s)
	}
}

// tell fills in what every reply has.
func (r *reply) tell(o *Observation) {
	r.requestID = o.RequestID
	if o.ClientAddr.IsValid() {
		r.clientAddr = o.ClientAddr.String()
	}
	if k := o.Decision.Key; k != nil {
		// A store that let bytes in that are no text must not make the reply unsendable.
		r.keyID, r.externalID = sanitizeUTF8(k.ID), sanitizeUTF8(k.ExternalID)
	}
}

// allow makes r the reply that lets the request through, also where a dry run does: with the identity that was found,
// without any that the caller made up, and without secrets.
func (r *reply) allow(c *call, s *Server, source int) {
	r.tell(&c.seen)
	addr := r.clientAddr
	if r.keyID == "" {
		addr = "" // a dry run, and nobody knows who it is
	}
	r.identify(keyIDHeader, r.keyID)
	r.identify(clientAddrHeader, addr)
	r.identify(externalIDHeader, r.externalID)
	for i := range c.headers {
		if name := c.headers[i].name; isIdentity(name) && !isOwnHeader(name) {
			r.remove = append(r.remove, name)
		}
	}
	s.hide(&c.attributes, source, r)
	d := &c.seen.Decision
	if d.Limits != nil && !s.dryRun {
		r.onResponse = appendLimits(r.onResponse, s.limits, d.Limits)
	}
	// Last: what panicked before refuses.
	if r.dryRun = s.dryRun; int(d.Code) < len(refusals) || d.Code.Allowed() {
		r.code = d.Code
	}
}

// appendLimits appends the headers that tell a caller about the rate limits.
func appendLimits(headers []field, style ratelimit.HeaderStyle, limits *ratelimit.Result) []field {
	for _, h := range style.Headers(*limits) {
		headers = append(headers, field{h.Name, h.Value})
	}
	return headers
}

// identify sets one identity header. One that has no value is removed whether or not it was
// seen, since Envoy may have been told not to show it. It is never both: Envoy removes after
// it sets.
func (r *reply) identify(name, value string) {
	if value == "" {
		r.remove = append(r.remove, name)
		return
	}
	r.headers = append(r.headers, field{name, value})
}

// refuse makes r the reply that sends the request back.
func (r *reply) refuse(c *call, s *Server) {
	d := &c.seen.Decision
	if int(d.Code) < len(refusals) {
		r.code = d.Code
	}
	r.tell(&c.seen)
	r.status = s.statuses[r.code]
	contentType, _ := c.header("content-type")
	if r.bareBody = isGRPC(contentType); !r.bareBody {
		r.headers = append(r.headers, field{"content-type", "application/json"})
	}
	// Some statuses may be kept by caches, and the next caller's key may be another.
	r.headers = append(r.headers, field{"cache-control", "no-store"})
	if r.status == 401 {
		r.headers = append(r.headers, field{"www-authenticate", s.challenge})
	}
	if d.Limits != nil {
		r.headers = appendLimits(r.headers, s.limits, d.Limits)
	}
	if (r.status == 429 || r.code == authz.RateLimited) && (d.Limits == nil || !d.Limits.Limited()) {
		r.headers = append(r.headers, field{"retry-after", "1"}) // nobody knows when
	}
}

// httpStatus returns the status of the refusal, which is never 0.
func (r *reply) httpStatus() int {
	if r.status == 0 {
		return refusals[r.code].status
	}
	return r.status
}

// appendBody appends the body of a refusal.
func (r *reply) appendBody(b []byte) []byte {
	if r.bareBody {
		return append(b, r.code.String()...)
	}
	b = append(b, `{"meta":{"requestId":`...)
	b = appendJSONString(b, r.requestID)
	b = append(b, `},"data":{"valid":false,"code":"`...)
	b = append(b, r.code.String()...)
	b = append(b, '"')
	if r.keyID != "" && refusals[r.code].keyID {
		b = append(b, `,"keyId":`...)
		b = appendJSONString(b, r.keyID)
	}
	return append(b, "}}"...)
}

// appendJSONString appends s as a JSON string (RFC 8259 section 7).
func appendJSONString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case c == utf8.RuneError && n == 1:
			b = append(b, `\ufffd`...)
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return append(b, '"')
}

// isGRPC reports whether a content-type is a gRPC caller's: application/grpc, by itself or
// followed by a subtype or parameters. gRPC-Web is not.
func isGRPC(contentType string) bool {
	const prefix = "application/grpc"
	n := len(prefix)
	return len(contentType) >= n && equalFold(contentType[:n], prefix) &&
		(len(contentType) == n || strings.IndexByte("+; \t", contentType[n]) >= 0)
}

// isIdentity reports whether a header's name begins with x-extauthz-. Many upstreams take "_"
// for "-", so it does here.
func isIdentity(name string) bool {
	if len(name) < len(identityPrefix) {
		return false
	}
	for i := range len(identityPrefix) {
		c := lower(name[i])
		if c == '_' {
			c = '-'
		}
		if c != identityPrefix[i] {
			return false
		}
	}
	return true
}

func isOwnHeader(name string) bool {
	return equalFold(name, keyIDHeader) || equalFold(name, clientAddrHeader) || equalFold(name, externalIDHeader)
}

func (r *reply) removeHeader(name string) { r.remove = appendMissing(r.remove, name) }

func appendMissing(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}
