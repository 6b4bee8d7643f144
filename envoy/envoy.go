// Package envoy speaks Envoy's external authorization protocol (envoy.service.auth.v3): it
// reads a check request, has it decided, and writes the reply that lets the request through
// or refuses it. How the decision itself is made is not known here.
package envoy

import (
	"context"
	"net/netip"
	"time"

	"extauthz/authz"
	"extauthz/ratelimit"
	"extauthz/route"
)

// An Authorizer decides on one request. [authz.Authorizer] is the one in production. It must
// be safe for concurrent use, and must not keep the request's strings after it has returned.
type Authorizer interface {
	Authorize(ctx context.Context, r authz.Request) (authz.Decision, error)
}

// Config says how a [Server] reads requests and answers them. Only Authorizer is required.
type Config struct {
	Authorizer Authorizer

	// KeySources are the places where the secret is looked for, in order. None: the header
	// x-api-key.
	KeySources []KeySource

	// ForwardKey leaves the secret that was checked in the request that goes upstream. What
	// stands in the other key sources is removed all the same: it was not checked.
	ForwardKey bool

	// ClientAddress says where the client address comes from. Nil: [Peer].
	ClientAddress AddressSource

	// Statuses overrides the HTTP statuses of refusals, from 400 to 599.
	Statuses map[authz.Code]int

	// Routes says what routes ask of a key where Envoy does not: where the context extensions
	// permissions and ratelimits are not sent. Each of them that is sent, be it empty, stands in
	// the place of the rule's field. Nil: nothing more is asked.
	Routes *route.Table

	// LimitHeaders is how callers are told about their rate limits. The zero value:
	// x-ratelimit fields.
	LimitHeaders ratelimit.HeaderStyle

	// DryRun lets every request through, whatever is decided, and tells its caller nothing. What
	// would have been refused is seen by Observe and in the dynamic metadata alone.
	DryRun bool

	// UnknownExtension, where set, is told the name of a context extension that asks for nothing,
	// as a misspelt one does: once for each of the first hundred names.
	UnknownExtension func(name string)

	// Observe is told of each check once it is decided; nil: nobody is. It runs before the
	// reply is sent, in many goroutines at once. It must keep neither the Observation nor a
	// string of it beyond its return: their memory is used again for other requests.
	Observe func(context.Context, *Observation)
}

// An Observation is what happened in one check. It holds no secret.
type Observation struct {
	Decision   authz.Decision
	Err        error      // why no decision could be made; nil where one was
	Panicked   bool       // the check panicked; Err says where
	LetThrough bool       // it was refused, and let through all the same: a dry run
	ClientAddr netip.Addr // the zero Addr where there is none
	AddrFrom   string     // where ClientAddr was looked for: "peer", "x-forwarded-for" or such as "header x-client-ip"
	AddrErr    error      // why there is no ClientAddr
	RouteErr   error      // why it cannot be told what the route asks for
	RequestID  string     // x-request-id, cut to 128 bytes
	Method     string     // cut to 32 bytes
	Host       string     // cut to 255 bytes
	Path       string     // without query and fragment, cut to 1024 bytes
	Duration   time.Duration
}
