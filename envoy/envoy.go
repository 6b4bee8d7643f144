// Package envoy speaks Envoy's external authorization protocol (envoy.service.auth.v3): it
// reads a check request, has it decided, and writes the reply that lets the request through
// or refuses it. How the decision itself is made is not known here.
package envoy

import (
	"context"
	"net/netip"
	"time"

	"extauthz/authz"
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
	ClientAddr netip.Addr // the zero Addr where there is none
	AddrFrom   string     // where ClientAddr was looked for: "peer", "x-forwarded-for" or such as "header x-client-ip"
	AddrErr    error      // why there is no ClientAddr
	RequestID  string     // x-request-id, cut to 128 bytes
	Method     string     // cut to 32 bytes
	Host       string     // cut to 255 bytes
	Path       string     // without query and fragment, cut to 1024 bytes
	Duration   time.Duration
}
