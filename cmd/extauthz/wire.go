package main

import (
	"context"

	"extauthz/config"
	"extauthz/envoy"
	"extauthz/route"
)

// serviceHooks hear of what the service sees. Each may be nil.
type serviceHooks struct {
	observe          func(context.Context, *envoy.Observation)
	unknownExtension func(name string)
}

// newService returns the service that the configuration describes, with what decides.
func newService(c *config.Config, decide envoy.Authorizer, hooks serviceHooks) (*envoy.Server, error) {
	routes, errs := route.New(c.Routes)
	if errs != nil {
		return nil, errs[0] // config.Load has found them all before
	}
	sources := make([]envoy.KeySource, len(c.KeySources))
	for i, s := range c.KeySources {
		sources[i] = envoy.KeySource(s)
	}
	return envoy.New(envoy.Config{
		Authorizer:    decide,
		KeySources:    sources,
		ForwardKey:    c.ForwardKey,
		ClientAddress: addressSource(c.ClientAddress),
		Statuses:      c.Statuses,
		Routes:        routes,
		LimitHeaders:  c.Ratelimit.Headers,
		DryRun:        c.DryRun,
		Observe:       hooks.observe,

		UnknownExtension: hooks.unknownExtension,
	})
}

func addressSource(c config.ClientAddress) envoy.AddressSource {
	switch {
	case c.From == config.FromHeader:
		return envoy.Header(c.Header)
	case c.From == config.FromXForwardedFor && c.TrustedHops > 0:
		return envoy.TrustedHops(c.TrustedHops, c.XFFAppended)
	case c.From == config.FromXForwardedFor:
		return envoy.TrustedProxies(c.TrustedProxies)
	}
	return envoy.Peer()
}
