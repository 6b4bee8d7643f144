// Package authz decides whether a request is allowed: whether its secret belongs to a key that
// may be used now, from this client address, for this route. It knows no protocol, and does no
// I/O except through the store and the rate limiter.
package authz

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"extauthz/keystore"
	"extauthz/permission"
	"extauthz/ratelimit"
)

// A Request holds everything that a decision depends on.
type Request struct {
	// Secret is what the caller sent; empty if nothing. Repeated secrets are joined by commas,
	// and so belong to no key.
	Secret keystore.Secret

	// ClientAddr is the address that is checked against the whitelist. The zero Addr means that
	// it could not be determined; a key with a whitelist is then refused.
	ClientAddr netip.Addr

	// Permissions is the query that the route requires the key to satisfy, in the syntax of
	// [permission.Parse]; empty for no requirement.
	Permissions string

	// Ratelimits is the cost of the request, in the syntax of [ratelimit.ParseCosts]; empty for
	// 1 under each limit that counts every request.
	Ratelimits string

	// ID identifies the request, so that a retry is charged once; empty if unknown. The caller
	// must not be able to choose it.
	ID string

	// NoWait returns [keystore.ErrNotInMemory] in place of a decision that would have to wait for the
	// store or the rate limiter. Nothing is spent then.
	NoWait bool

	// RouteErr, if non-nil, is why the route's requirements are unknown: servers disagree on
	// the meaning of the request. It is then refused as InsufficientPermissions.
	RouteErr error
}

// A Decision is the outcome for one request. Its zero value refuses.
type Decision struct {
	Code Code
	Key  *keystore.Key // the key that the secret belongs to; nil if none was found

	// WouldRefuse reports that the key's whitelist is in report mode and does not contain the
	// client address: in enforce mode, the request would be refused as Forbidden.
	WouldRefuse bool

	// PreviousSecret reports that the secret is the one that the key's last rotation replaced.
	PreviousSecret bool

	// Stale reports that the key's record is an old one, because the store could not confirm it.
	Stale bool

	// Limits is the state of the key's rate limits; nil if none applied or the limiter failed.
	Limits *ratelimit.Result
}

// An Authorizer makes decisions. It is safe for concurrent use.
type Authorizer struct {
	store keystore.Store
	stale keystore.StaleStore // store, if it can report that a record is stale
	now   func() time.Time

	memory keystore.MemoryStore // store, if it can answer from memory only

	roles          permission.Roles
	limits         Limits
	badRequirement func(error) // may be nil

	queries     parseCache[*permission.Query]
	costs       parseCache[ratelimit.Costs]
	limiterDown atomic.Bool
}

// New returns an Authorizer for the keys in the store. now is the clock for expiry: [time.Now] in
// production.
func New(store keystore.Store, now func() time.Time, options ...Option) *Authorizer {
	a := &Authorizer{
		store: store, now: now,
		queries: newParseCache("permissions", permission.Parse),
		costs:   newParseCache("ratelimits", ratelimit.ParseCosts),
	}
	a.stale, _ = store.(keystore.StaleStore)
	a.memory, _ = store.(keystore.MemoryStore)
	for _, set := range options {
		set(a)
	}
	return a
}

// Authorize runs the checks in order; the first that fails decides. A refusal is a Decision, not
// an error. An error means that no decision could be made; the Decision is then [Unavailable].
// It looks up at most one record in the store.
func (a *Authorizer) Authorize(ctx context.Context, r Request) (Decision, error) {
	e := evaluations.Get().(*evaluation)
	defer e.release()
	e.a, e.ctx, e.request = a, ctx, r
	for i := range checks {
		if ok, err := checks[i].holds(e); err != nil {
			return e.decision(Unavailable), err
		} else if !ok {
			return e.decision(checks[i].code), nil
		}
	}
	return e.decision(Valid), nil
}

func (e *evaluation) decision(code Code) Decision {
	return Decision{Code: code, Key: e.key, WouldRefuse: e.wouldRefuse, PreviousSecret: e.previous, Stale: e.stale, Limits: e.limits}
}

// An evaluation is the state of one decision, which the checks share.
type evaluation struct {
	a       *Authorizer
	ctx     context.Context //nolint:containedctx // lives as long as one call
	request Request
	key     *keystore.Key // set by known

	stale       bool // set by known: the store could not confirm the record
	previous    bool // set by known: the secret is the one before the key's rotation
	wouldRefuse bool // set by listed

	peek     bool // report the rate limits without spending
	charges  []ratelimit.Charge
	limits   *ratelimit.Result // set by withinLimits
	limitErr error             // of the limiter; set by withinLimits
}

// evaluations avoids an allocation per request: the checks are called through a table, so their
// argument escapes.
var evaluations = sync.Pool{New: func() any { return new(evaluation) }}

func (e *evaluation) release() {
	clear(e.charges)
	*e = evaluation{charges: e.charges[:0]}
	evaluations.Put(e)
}

// A check is one row of the decision.
type check struct {
	code  Code // of the decision if the check fails
	holds func(*evaluation) (bool, error)
	// explain describes the result to the operator in a few words, without the secret.
	explain func(e *evaluation, ok bool) string
}

// checks are run in this order. None after the first that fails runs.
var checks = [...]check{
	{MissingKey, (*evaluation).present, (*evaluation).explainPresent},
	{NotFound, (*evaluation).known, (*evaluation).explainKnown},
	{Disabled, (*evaluation).enabled, (*evaluation).explainEnabled},
	{Expired, (*evaluation).unexpired, (*evaluation).explainUnexpired},
	{Forbidden, (*evaluation).listed, (*evaluation).explainListed},
	{InsufficientPermissions, (*evaluation).permitted, (*evaluation).explainPermitted},
	{RateLimited, (*evaluation).withinLimits, (*evaluation).explainWithinLimits},
}

func (e *evaluation) present() (bool, error) { return e.request.Secret != "", nil }

// known finds the key. It does not look up secrets that no key can have: those that are too
// long, or contain a comma, as a repeated header does.
func (e *evaluation) known() (bool, error) {
	s := e.request.Secret
	if len(s) > keystore.MaxSecretLen || strings.IndexByte(string(s), ',') >= 0 {
		return false, nil
	}
	h := s.Hash()
	k, err := e.lookUp(h)
	if errors.Is(err, keystore.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if k == nil {
		return false, errNoAnswer
	}
	if k.Hash != h {
		// A rotated key is also found by its previous secret. Stores do not check the time.
		if !k.Previous.WorksAt(h, e.a.now()) {
			return false, nil
		}
		e.previous = true
	}
	e.key = k
	return true, nil
}

func (e *evaluation) lookUp(h keystore.Hash) (k *keystore.Key, err error) {
	if e.request.NoWait {
		if e.a.memory == nil {
			return nil, keystore.ErrNotInMemory
		}
		k, e.stale, err = e.a.memory.LookupMemory(h)
		return k, err
	}
	if e.a.stale == nil {
		return e.a.store.Lookup(e.ctx, h)
	}
	k, e.stale, err = e.a.stale.LookupStale(e.ctx, h)
	return k, err
}

var errNoAnswer = errors.New("the key store returned neither a key nor an error")

func (e *evaluation) enabled() (bool, error) { return e.key.Enabled, nil }

func (e *evaluation) unexpired() (bool, error) {
	// Reading the clock takes a fifth of the decision's time, and most keys do not expire.
	return e.key.Expires.IsZero() || !e.key.ExpiredAt(e.a.now()), nil
}

func (e *evaluation) listed() (bool, error) {
	k := e.key
	ok := k.Broken == nil && k.Whitelist.Contains(e.request.ClientAddr)
	e.wouldRefuse = !ok && k.Broken == nil && k.WhitelistMode == keystore.Report
	return ok || e.wouldRefuse, nil
}
