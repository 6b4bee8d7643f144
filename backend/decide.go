package backend

import (
	"context"
	"time"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/config"
	"extauthz/keystore"
	"extauthz/ratelimit"
	"extauthz/route"
)

// AuthorizerHooks are called when permissions or rate limits cannot be applied. Each may be nil.
type AuthorizerHooks struct {
	BadRoute      func(error)                 // the requirements of a route cannot be parsed
	LimiterFailed func(err error, first bool) // the limiter could not answer; first since it last could
}

// NewAuthorizer returns the authorizer that the configuration describes.
func NewAuthorizer(c *config.Config, s keystore.Store, l ratelimit.Limiter, hooks AuthorizerHooks) *authz.Authorizer {
	owners := make(map[string][]keystore.Ratelimit, len(c.ExternalIDs))
	for id, o := range c.ExternalIDs {
		owners[id] = o.Ratelimits
	}
	return authz.New(s, time.Now,
		authz.WithRoles(c.Roles),
		authz.WithBadRequirement(hooks.BadRoute),
		authz.WithLimits(authz.Limits{
			Limiter: l, Remote: c.Ratelimit.Store == config.LimitsInRedis, Owners: owners, RefuseOnError: c.Ratelimit.RefuseOnError, Failed: hooks.LimiterFailed,
		}))
}

// CheckerHooks are called by a checker. Each may be nil. See [check.Config].
type CheckerHooks struct {
	Begin            func(context.Context) context.Context          // before each check, as [check.Config]'s
	Observe          func(context.Context, *check.Observation)      // after each check
	Record           func(context.Context, *check.Observation) bool // as [check.Config]'s
	ObservePanicked  func(error)                                    // Record or Observe panicked
	UnknownExtension func(name string)                              // a route has an unknown context extension
}

// NewChecker returns the checker that the configuration describes, which uses decide for decisions.
func NewChecker(c *config.Config, decide check.Authorizer, hooks CheckerHooks) (*check.Checker, error) {
	routes, errs := route.New(c.Routes)
	if errs != nil {
		return nil, errs[0] // config.Load reports them all
	}
	return check.New(check.Config{
		Authorizer:    decide,
		KeySources:    c.KeySources,
		ForwardKey:    c.ForwardKey,
		ClientAddress: c.ClientAddress.Source(),
		Statuses:      c.Statuses,
		Routes:        routes,
		LimitHeaders:  c.Ratelimit.Headers,
		DryRun:        c.DryRun,
		Begin:         hooks.Begin,
		Record:        hooks.Record,
		Observe:       hooks.Observe,

		ObservePanicked:  hooks.ObservePanicked,
		UnknownExtension: hooks.UnknownExtension,
	})
}
