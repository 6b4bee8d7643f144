package authz

import (
	"fmt"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"extauthz/keystore"
	"extauthz/permission"
	"extauthz/ratelimit"
)

// An Option configures an Authorizer.
type Option func(*Authorizer)

// WithRoles defines the roles of keys. The map must not be modified afterwards.
func WithRoles(roles permission.Roles) Option { return func(a *Authorizer) { a.roles = roles } }

// WithLimits enforces the rate limits of keys.
func WithLimits(l Limits) Option { return func(a *Authorizer) { a.limits = l } }

// WithBadRequirement sets a function that is called once for each value of a route's Permissions
// or Ratelimits that cannot be parsed, so that it can be logged.
func WithBadRequirement(report func(error)) Option {
	return func(a *Authorizer) { a.badRequirement = report }
}

// Limits configures rate limiting. The zero value has no limiter: requests of a key with a rate
// limit are then Unavailable.
type Limits struct {
	Limiter ratelimit.Limiter

	// Remote reports that the Limiter uses the network.
	Remote bool

	// Owners are the limits that all keys with an external id share. A key's own limit replaces
	// a shared one of the same name. The map must not be modified afterwards.
	Owners map[string][]keystore.Ratelimit

	// RefuseOnError refuses a request as Unavailable if the Limiter fails. Otherwise the request
	// is allowed.
	RefuseOnError bool

	// Failed, if non-nil, is called each time the Limiter fails; first is true for the first
	// failure after a success. It must return quickly.
	Failed func(err error, first bool)
}

// parseCacheSize is the number of entries in each parse cache.
const parseCacheSize = 1000

// A parseCache caches the result of parsing a field of a route's requirements, errors included.
type parseCache[T any] struct {
	entries *lru.Cache[string, parsed[T]]
	field   string
	parse   func(string) (T, error)
}

type parsed[T any] struct {
	value T
	err   error
}

func newParseCache[T any](field string, parse func(string) (T, error)) parseCache[T] {
	entries, _ := lru.New[string, parsed[T]](parseCacheSize) // fails only for sizes below 1
	return parseCache[T]{entries, field, parse}
}

// get returns the parsed text. It calls report, if non-nil, with each error that is new.
func (c parseCache[T]) get(text string, report func(error)) (T, error) {
	if p, ok := c.entries.Get(text); ok {
		return p.value, p.err
	}
	text = strings.Clone(text) // an entry must not keep the memory of the request
	var p parsed[T]
	if p.value, p.err = c.parse(text); p.err != nil {
		p.err = fmt.Errorf("the route's %s %.200q: %w", c.field, text, p.err)
	}
	if _, known, _ := c.entries.PeekOrAdd(text, p); !known && p.err != nil && report != nil {
		report(p.err)
	}
	return p.value, p.err
}
