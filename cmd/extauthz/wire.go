package main

import (
	"context"
	"time"

	"extauthz/authz"
	"extauthz/config"
	"extauthz/envoy"
	"extauthz/keystore"
)

// newService returns the service that the configuration describes, over the store.
func newService(c *config.Config, s keystore.Store, observe func(context.Context, *envoy.Observation)) (*envoy.Server, error) {
	sources := make([]envoy.KeySource, len(c.KeySources))
	for i, s := range c.KeySources {
		sources[i] = envoy.KeySource(s)
	}
	return envoy.New(envoy.Config{
		Authorizer:    authz.New(s, time.Now),
		KeySources:    sources,
		ForwardKey:    c.ForwardKey,
		ClientAddress: addressSource(c.ClientAddress),
		Statuses:      c.Statuses,
		Observe:       observe,
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
