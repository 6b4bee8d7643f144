// Package authz decides whether a request may go on: whether its secret belongs to a key that
// may be used now, from this client address, for this. It knows no protocol and does no I/O
// but the store's.
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

// A Request is what a decision is made on.
type Request struct {
	// Secret is what the caller sent; empty for none. A secret that was sent more than once
	// comes joined by commas, and so belongs to no key.
	Secret keystore.Secret

	// ClientAddr is the one address that the whitelist is held against. The zero Addr says
	// that it could not be determined: a key with a whitelist is then refused.
	ClientAddr netip.Addr

	// Permissions is the query that the route asks of the key, as [permission.Parse] reads
	// it; empty: it asks for none.
	Permissions string

	// Ratelimits are what the request costs, as [ratelimit.ParseCosts] reads it; empty: 1,
	// under each limit that counts every request.
	Ratelimits string

	// ID identifies the request, so that it spends once although it is decided twice; empty where
	// it is not known. The caller must not be able to choose it.
	ID string

	// RouteErr, where set, says why it cannot be told what the route asks for: the request was
	// made so that servers disagree on what it means. It is then refused with
	// InsufficientPermissions.
	RouteErr error
}

// A Decision is the outcome for one request. Its zero value refuses.
type Decision struct {
	Code Code
	Key  *keystore.Key // the key that the secret belongs to; nil where none was found

	// WouldRefuse says that the whitelist of the key, which only reports, does not hold the
	// client address: enforced, it would have refused the request as Forbidden.
	WouldRefuse bool

	// PreviousSecret says that the secret is the one that the key's last rotation replaced.
	PreviousSecret bool

	// Limits is what the key's rate limits said; nil where none was asked, or could tell.
	Limits *ratelimit.Result
}

// An Authorizer makes decisions. It is safe for concurrent use.
type Authorizer struct {
	store keystore.Store
	now   func() time.Time

	roles   permission.Roles
	limits  Limits
	tellBad func(error) // may be nil

	queries     texts[*permission.Query]
	costs       texts[ratelimit.Costs]
	limiterDown atomic.Bool
}

// New returns an Authorizer over the store. now is the clock that expiry is held against;
// [time.Now] in production.
func New(store keystore.Store, now func() time.Time, options ...Option) *Authorizer {
	a := &Authorizer{
		store: store, now: now,
		queries: newTexts("permissions", permission.Parse),
		costs:   newTexts("ratelimits", ratelimit.ParseCosts),
	}
	for _, set := range options {
		set(a)
	}
	return a
}

// Authorize runs the checks in their order, and the first that fails decides. A refusal is a
// Decision, not an error: an error says why no decision could be made, and the Decision
// beside it is then [Unavailable]. The store is asked at most once.
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
	return Decision{Code: code, Key: e.key, WouldRefuse: e.wouldRefuse, PreviousSecret: e.previous, Limits: e.limits}
}

// An evaluation is one decision under way: what the checks read and leave for each other.
type evaluation struct {
	a       *Authorizer
	ctx     context.Context //nolint:containedctx // lives as long as one call
	request Request
	key     *keystore.Key // set by known

	previous    bool // set by known: the secret is the one before the key's rotation
	wouldRefuse bool // set by listed

	look     bool // at the limits, and spend nothing
	charges  []ratelimit.Charge
	limits   *ratelimit.Result // set by withinLimits
	limitErr error             // why they could not tell
}

// The checks are called through a table, so what they are given would be allocated for each
// request if it were not kept here.
var evaluations = sync.Pool{New: func() any { return new(evaluation) }}

func (e *evaluation) release() {
	clear(e.charges)
	*e = evaluation{charges: e.charges[:0]}
	evaluations.Put(e)
}

// A check is one row of the decision.
type check struct {
	code  Code // what a request is told where the check does not hold
	holds func(*evaluation) (bool, error)
	// says explains the check's outcome to the operator, in a few words without the secret.
	says func(e *evaluation, ok bool) string
}

// checks is the order in which a decision is made. Nothing after the first that fails runs.
var checks = [...]check{
	{MissingKey, (*evaluation).present, (*evaluation).sayPresent},
	{NotFound, (*evaluation).known, (*evaluation).sayKnown},
	{Disabled, (*evaluation).enabled, (*evaluation).sayEnabled},
	{Expired, (*evaluation).unexpired, (*evaluation).sayUnexpired},
	{Forbidden, (*evaluation).listed, (*evaluation).sayListed},
	{InsufficientPermissions, (*evaluation).permitted, (*evaluation).sayPermitted},
	{RateLimited, (*evaluation).withinLimits, (*evaluation).sayWithinLimits},
}

func (e *evaluation) present() (bool, error) { return e.request.Secret != "", nil }

// known finds the key. A secret that no key can have costs the store nothing: one that is too
// long, or that holds a comma, as a header that was sent twice does.
func (e *evaluation) known() (bool, error) {
	s := e.request.Secret
	if len(s) > keystore.MaxSecretLen || strings.IndexByte(string(s), ',') >= 0 {
		return false, nil
	}
	h := s.Hash()
	k, err := e.a.store.Lookup(e.ctx, h)
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
		// A rotated key is found by its previous secret too. Stores do not look at the time.
		if !k.Previous.WorksAt(h, e.a.now()) {
			return false, nil
		}
		e.previous = true
	}
	e.key = k
	return true, nil
}

var errNoAnswer = errors.New("the key store returned neither a key nor an error")

func (e *evaluation) enabled() (bool, error) { return e.key.Enabled, nil }

func (e *evaluation) unexpired() (bool, error) {
	// Reading the clock is a fifth of the whole decision, and most keys do not expire.
	return e.key.Expires.IsZero() || !e.key.ExpiredAt(e.a.now()), nil
}

func (e *evaluation) listed() (bool, error) {
	k := e.key
	ok := k.Broken == nil && k.Whitelist.Contains(e.request.ClientAddr)
	e.wouldRefuse = !ok && k.Broken == nil && k.WhitelistMode == keystore.Report
	return ok || e.wouldRefuse, nil
}
