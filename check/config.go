package check

import (
	"context"
	"net/netip"
	"time"

	"extauthz/authz"
	"extauthz/ratelimit"
	"extauthz/route"
)

// Config configures a [Checker]. Only Authorizer is required.
type Config struct {
	Authorizer Authorizer

	// KeySources are the places where a request may carry the secret, in order: the first that
	// is present is used. None: [DefaultKeySources].
	KeySources []KeySource

	// ForwardKey keeps the secret that was checked in the request that goes upstream. Secrets in
	// the other key sources are still removed, since they were not checked.
	ForwardKey bool

	// ClientAddress is the source of the client address. Nil: [Peer].
	ClientAddress AddressSource

	// Statuses overrides the HTTP statuses of refusals, from 400 to 599.
	Statuses map[authz.Code]int

	// Routes holds what routes require of a key. The context extensions permissions and
	// ratelimits, if the front end sends them, each replace the rule's field, even when empty.
	// Nil: no rules.
	Routes *route.Table

	// LimitHeaders is the form of the headers that report rate limits to callers. The zero
	// value: x-ratelimit fields.
	LimitHeaders ratelimit.HeaderStyle

	// DryRun lets every request through, whatever the decision. Only Observe and the metadata
	// show what would have been refused; the caller sees no difference.
	DryRun bool

	// UnknownExtension, if non-nil, is called with the name of an unknown context extension, such
	// as a misspelt one: once for each of the first hundred names.
	UnknownExtension func(name string)

	// Begin, if non-nil, is called before each check. The context that it returns, which must be
	// derived from its own, is that of the decision, Record and Observe.
	Begin func(context.Context) context.Context

	// Observe, if non-nil, is called after each check, before its outcome is used. It must be
	// safe for concurrent use, and must not keep the Observation or any string of it after it
	// returns: their memory is reused.
	Observe func(context.Context, *Observation)

	// Record, if non-nil, is called after each check and before Observe, with the same
	// requirements. If it returns false, the request is refused as [authz.Unavailable], so that no
	// request is allowed without a record.
	Record func(context.Context, *Observation) bool

	// ObservePanicked, if non-nil, is called when Record or Observe panics; err says where. The request
	// is refused.
	ObservePanicked func(err error)
}

// An Observation describes one check. It contains no secret.
type Observation struct {
	Decision    authz.Decision
	Err         error      // why no decision could be made; nil if one was
	Panicked    bool       // the check panicked; Err says where
	LetThrough  bool       // the decision refuses the request, and a dry run lets it through
	ClientAddr  netip.Addr // the zero Addr if there is none
	AddrFrom    string     // the source of ClientAddr: "peer", "x-forwarded-for", or a header, such as "header x-client-ip"
	AddrErr     error      // why there is no ClientAddr
	Permissions string     // the permissions that the route requires, as configured
	Ratelimits  string     // the rate limits that the route charges, as configured
	RouteErr    error      // why the requirements of the route are unknown
	RequestID   string     // x-request-id, truncated to 128 bytes
	TraceParent string     // traceparent as the caller sent it, truncated to 64 bytes
	Peer        string     // the address of the connection's remote end, truncated to 64 bytes
	Method      string     // truncated to 32 bytes
	Host        string     // truncated to 255 bytes
	Path        string     // without query and fragment, truncated to 1024 bytes
	Start       time.Time
	Duration    time.Duration
}
