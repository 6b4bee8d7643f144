package authz

import (
	"fmt"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"extauthz/keystore"
	"extauthz/permission"
	"extauthz/ratelimit"
)

// An Option sets up more of an Authorizer than its store.
type Option func(*Authorizer)

// WithRoles says what the roles of keys stand for. The map must not change any more.
func WithRoles(roles permission.Roles) Option { return func(a *Authorizer) { a.roles = roles } }

// WithLimits says how the rate limits of keys are held.
func WithLimits(l Limits) Option { return func(a *Authorizer) { a.limits = l } }

// WithBadTexts sets what is told of a route's Permissions or Ratelimits that cannot be read,
// once for each text, so that it can be logged.
func WithBadTexts(tell func(error)) Option { return func(a *Authorizer) { a.tellBad = tell } }

// Limits say how rate limits are held. The zero value has no limiter: no decision can then be
// made about a key with a limit.
type Limits struct {
	Limiter ratelimit.Limiter

	// Owners are the limits that all keys with an external id share. A key's own limit stands
	// in the place of a shared one of the same name. The map must not change any more.
	Owners map[string][]keystore.Ratelimit

	// RefuseOnError refuses, as Unavailable, what the Limiter could not tell. Otherwise such a
	// request is let through.
	RefuseOnError bool

	// Failed, where set, is told each time that the Limiter could not tell; first is true for
	// the first time since it last could. It must return soon.
	Failed func(err error, first bool)
}

// keptTexts is how many of the routes' texts are kept compiled, of each kind.
const keptTexts = 1000

// texts keeps what the routes' texts were compiled to, and what is wrong with those that were
// not, so that either is found out once.
type texts[T any] struct {
	kept  *lru.Cache[string, compiled[T]]
	field string
	parse func(string) (T, error)
}

type compiled[T any] struct {
	value T
	err   error
}

func newTexts[T any](field string, parse func(string) (T, error)) texts[T] {
	kept, _ := lru.New[string, compiled[T]](keptTexts) // fails for a size below 1 alone
	return texts[T]{kept, field, parse}
}

// get returns what the text means. It calls tell, where set, with an error that it returns for
// the first time.
func (t texts[T]) get(text string, tell func(error)) (T, error) {
	if c, ok := t.kept.Get(text); ok {
		return c.value, c.err
	}
	text = strings.Clone(text) // what is kept must not keep the whole request
	var c compiled[T]
	if c.value, c.err = t.parse(text); c.err != nil {
		c.err = fmt.Errorf("the route's %s %.200q: %w", t.field, text, c.err)
	}
	if _, known, _ := t.kept.PeekOrAdd(text, c); !known && c.err != nil && tell != nil {
		tell(c.err)
	}
	return c.value, c.err
}
