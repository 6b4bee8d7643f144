// Package check checks one HTTP request. Given the request's [Attributes], a [Checker] finds the
// secret, the client address and the route's requirements, calls an [Authorizer], and returns an
// [Outcome]: let the request through, with changes, or refuse it with a response. The package
// knows no wire format: a front end, such as package envoy, translates its protocol to Attributes
// and the Outcome back.
package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"extauthz/authz"
	"extauthz/keystore"
	"extauthz/ratelimit"
	"extauthz/route"
)

// An Authorizer decides on one request; in production it is an [authz.Authorizer]. It must be
// safe for concurrent use, and must not keep the request's strings after it has returned.
type Authorizer interface {
	Authorize(ctx context.Context, r authz.Request) (authz.Decision, error)
}

// A Checker checks requests. Create one with [New]. It is safe for concurrent use.
type Checker struct {
	authorizer Authorizer
	sources    []KeySource
	forwardKey bool
	address    AddressSource
	statuses   [len(refusals)]int
	challenge  string // the value of www-authenticate
	routes     *route.Table
	limits     ratelimit.HeaderStyle
	dryRun     bool
	unknown    unknownNames
	begin      func(context.Context) context.Context
	record     func(context.Context, *Observation) bool
	observe    func(context.Context, *Observation)
	panicked   func(error)
}

// New returns a Checker for cfg, or every error in cfg, joined.
func New(cfg Config) (*Checker, error) {
	c := &Checker{
		authorizer: cfg.Authorizer,
		sources:    slices.Clone(cfg.KeySources),
		forwardKey: cfg.ForwardKey,
		address:    cfg.ClientAddress,
		routes:     cfg.Routes,
		limits:     cfg.LimitHeaders,
		dryRun:     cfg.DryRun,
		unknown:    unknownNames{report: cfg.UnknownExtension},
		begin:      cfg.Begin,
		record:     cfg.Record,
		observe:    cfg.Observe,
		panicked:   cfg.ObservePanicked,
	}
	if len(c.sources) == 0 {
		c.sources = DefaultKeySources()
	}
	if c.address == nil {
		c.address = Peer()
	}
	var errs []error
	if c.authorizer == nil {
		errs = append(errs, errors.New("no Authorizer: set one"))
	}
	if err := c.address.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("client_address: %w", err))
	}
	errs = append(errs, validateSources(c.sources, c.address), c.prepareStatuses(cfg.Statuses))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c.challenge = challenge(c.sources)
	return c, nil
}

func (c *Checker) prepareStatuses(overrides map[authz.Code]int) error {
	for code, r := range refusals {
		c.statuses[code] = r.status
	}
	var errs []error
	for code, status := range overrides {
		switch {
		case int(code) >= len(refusals):
			errs = append(errs, fmt.Errorf("statuses: %s is not the code of a refusal, so it has no status: omit it", code))
		case status < 400 || status > 599:
			errs = append(errs, fmt.Errorf("statuses: %s: %d does not refuse: write a status from 400 to 599", code, status))
		default:
			c.statuses[code] = status
		}
	}
	return errors.Join(errs...)
}

// Check decides on the request with the attributes a and sets o, whose memory it reuses. It
// never panics: a request whose check panics is refused as [authz.Unavailable], by a denial, not an
// error. Strings of o may share memory with those of a.
func (c *Checker) Check(ctx context.Context, a *Attributes, o *Outcome) {
	c.check(ctx, a, o, c.begin, false)
}

// TryCheck is Check, but returns false if the decision would have to wait for the key store or the rate
// limiter. Nothing is spent, recorded or observed then, and o refuses; the check is for [Checker.Continue] to
// complete, with the context that TryCheck returns. It never blocks.
func (c *Checker) TryCheck(ctx context.Context, a *Attributes, o *Outcome) (begun context.Context, done bool) {
	return c.check(ctx, a, o, c.begin, true)
}

// Continue is Check for a request whose TryCheck returned false. ctx is the context that TryCheck returned, or
// derived from it: Begin is called once for each check.
func (c *Checker) Continue(ctx context.Context, a *Attributes, o *Outcome) {
	c.check(ctx, a, o, nil, false)
}

// check is TryCheck if noWait is true. begin may be nil.
func (c *Checker) check(ctx context.Context, a *Attributes, o *Outcome, begin func(context.Context) context.Context, noWait bool) (begun context.Context, done bool) {
	o.Reset()
	begun = ctx
	defer func() {
		if p := recover(); p != nil { // in Begin, Record or Observe
			o.Deny()
			c.reportPanic(panicError(p))
			done = true
		}
	}()
	if begin != nil {
		begun = begin(ctx)
	}
	if c.observe == nil && c.record == nil {
		return begun, c.decide(begun, a, o, noWait)
	}
	start := time.Now()
	if !c.decide(begun, a, o, noWait) {
		return begun, false
	}
	o.seen.Start, o.seen.Duration = start, time.Since(start)
	if c.record != nil && !c.record(begun, &o.seen) {
		c.refuseUnrecorded(a, o)
	}
	if c.observe != nil {
		c.observe(begun, &o.seen)
	}
	return begun, true
}

var errNotRecorded = errors.New("the decision cannot be recorded")

// refuseUnrecorded replaces the outcome with the refusal of a request that cannot be recorded. It is
// a denial: no proxy may let the request through, since that would not be recorded either.
func (c *Checker) refuseUnrecorded(a *Attributes, o *Outcome) {
	seen := o.seen
	o.Deny()
	seen.Decision.Code, seen.Err = authz.Unavailable, errNotRecorded
	o.seen = seen
	c.answer(a, o, -1)
}

// Refuse sets o to the refusal of a request that the front end could not read because of err,
// and calls Observe. Its code is [authz.Unavailable], but it is a denial, not an error: the cause
// is what the caller sent, so no proxy may let the request through because of it.
func (c *Checker) Refuse(ctx context.Context, err error, o *Outcome) {
	o.Reset()
	defer func() {
		if p := recover(); p != nil { // in Record or Observe
			o.Deny()
			c.reportPanic(panicError(p))
		}
	}()
	o.seen.Err, o.denial = err, true
	c.answer(&Attributes{}, o, -1)
	if c.record != nil {
		_ = c.record(ctx, &o.seen) // the request is refused in any case
	}
	if c.observe != nil {
		c.observe(ctx, &o.seen)
	}
}

func (c *Checker) reportPanic(err error) {
	defer func() { _ = recover() }()
	if c.panicked != nil {
		c.panicked(err)
	}
}

// decide sets o and the observation in it. If anything in it panics, o refuses. It returns false if
// noWait is true and the decision would have to wait.
func (c *Checker) decide(ctx context.Context, a *Attributes, o *Outcome, noWait bool) (done bool) {
	seen, used := &o.seen, -1
	defer func() {
		if p := recover(); p != nil {
			done = true
			observed := *seen
			o.Deny()
			*seen = observed
			seen.Decision, seen.Err, seen.Panicked = authz.Decision{}, panicError(p), true
			c.answer(a, o, used)
		}
	}()
	id, _ := a.Header("x-request-id")
	seen.RequestID = clip(id, maxRequestID)
	traceParent, _ := a.Header("traceparent")
	seen.TraceParent, seen.Peer = clip(traceParent, 64), clip(a.Peer, 64)
	seen.Method, seen.Host, seen.Path = clip(a.Method, 32), clip(a.Host, 255), clip(barePath(a.Path), 1024)
	seen.ClientAddr, seen.AddrFrom, seen.AddrErr = c.address.Find(a)

	request := c.requirements(a)
	request.ClientAddr = seen.ClientAddr
	if a.ID != id { // otherwise the caller chose it, and could repeat it
		request.ID = a.ID
	}
	seen.Permissions, seen.Ratelimits, seen.RouteErr = request.Permissions, request.Ratelimits, request.RouteErr
	var secret string
	secret, used = c.secret(a)
	request.Secret, request.NoWait = keystore.Secret(secret), noWait
	seen.Decision, seen.Err = c.authorize(ctx, request)
	if noWait && errors.Is(seen.Err, keystore.ErrNotInMemory) {
		o.Reset()
		return false
	}
	o.denial = seen.Err != nil && errors.Is(seen.Err, keystore.ErrPanicked)
	c.answer(a, o, used)
	return true
}

var errNoKey = errors.New("the decision is VALID, but without a secret or a key")

// authorize calls the Authorizer. Only a decision before ctx ends, without an error, and with a key
// can allow.
func (c *Checker) authorize(ctx context.Context, r authz.Request) (authz.Decision, error) {
	if err := ctx.Err(); err != nil {
		return authz.Decision{}, err
	}
	d, err := c.authorizer.Authorize(ctx, r)
	if err == nil && d.Code.Allowed() {
		if err = ctx.Err(); err == nil && (d.Key == nil || r.Secret == "") {
			err = errNoKey
		}
	}
	if err != nil {
		d.Code = authz.Unavailable
	}
	return d, err
}
