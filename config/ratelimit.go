package config

import (
	"time"

	"gopkg.in/yaml.v3"

	"extauthz/keystore"
	"extauthz/ratelimit"
	"extauthz/strictyaml"
)

// Ratelimit configures where requests are counted for the keys' rate limits.
type Ratelimit struct {
	// Store is memory, where each replica counts its own requests, or redis, where all replicas
	// share their counters. Default: memory.
	Store string

	// URL, with redis, has the form of the URL of a Redis key store. It has no default.
	URL string

	// Prefix, with redis, is the prefix of the name of every counter. Default: extauthz:ratelimit:.
	Prefix string

	// Timeout, with redis, limits the time of one request to it, from 1ms to 10s. Keep the sum of
	// it and cache.lookup_timeout below Envoy's timeout for the check. Default: 50ms.
	Timeout time.Duration

	// RefuseOnError selects what happens to a request when Redis does not answer: on_error: allow
	// lets it through, on_error: refuse refuses it as UNAVAILABLE. Default: allow.
	RefuseOnError bool

	// Headers selects the headers that report limits to callers: x-ratelimit or ietf.
	// Default: x-ratelimit.
	Headers ratelimit.HeaderStyle
}

// ExternalID holds what all keys with an external id share.
type ExternalID struct {
	// Ratelimits are shared by all these keys. A key's own limit replaces one with the same name.
	Ratelimits []keystore.Ratelimit
}

// The values of [Ratelimit.Store].
const (
	LimitsInMemory = "memory"
	LimitsInRedis  = "redis"
)

func (r *reader) ratelimit(n *yaml.Node) {
	c := &r.c.Ratelimit
	var url, prefix, timeout *yaml.Node
	text := func(at **yaml.Node, field, example string, to *string) func(*yaml.Node) {
		return func(n *yaml.Node) {
			*at = n
			if s, ok := value(r, n, r.String); ok && s == "" {
				r.Errorf(n, "%s is empty: write one such as %s", field, example)
			} else if ok {
				*to = s
			}
		}
	}
	known := true
	ok := r.Mapping(n, strictyaml.Fields{
		"store": func(n *yaml.Node) {
			c.Store = ""
			r.oneOf(n, &c.Store, LimitsInMemory, LimitsInRedis)
			known = c.Store != ""
		},
		"url":     text(&url, "url", exampleURL, &c.URL),
		"prefix":  text(&prefix, "prefix", "extauthz:ratelimit:", &c.Prefix),
		"timeout": func(n *yaml.Node) { timeout = n; r.duration(n, &c.Timeout, time.Millisecond, 10*time.Second) },
		"on_error": func(n *yaml.Node) {
			var do string
			r.oneOf(n, &do, "allow", "refuse")
			c.RefuseOnError = do == "refuse"
		},
		"headers": func(n *yaml.Node) {
			var name string
			if r.oneOf(n, &name, ratelimit.XRateLimit.String(), ratelimit.IETF.String()); name != "" {
				c.Headers, _ = ratelimit.ParseHeaderStyle(name)
			}
		},
	})
	switch {
	case !ok || !known:
	case c.Store == LimitsInRedis && url == nil:
		r.Errorf(n, "url is missing: write `ratelimit: {store: redis, url: %q}`", exampleURL)
	case c.Store == LimitsInMemory:
		for _, f := range []struct {
			name string
			at   *yaml.Node
		}{{"url", url}, {"prefix", prefix}, {"timeout", timeout}} {
			if f.at != nil {
				r.Errorf(f.at, "%s requires `store: redis`: write that, or omit %s", f.name, f.name)
			}
		}
	}
}

func (r *reader) externalIDs(n *yaml.Node) {
	r.c.ExternalIDs = map[string]ExternalID{}
	r.each(n, func(name, value *yaml.Node) {
		if err := keystore.ValidateExternalID(name.Value); err != nil {
			r.Errorf(name, "an external_id: %v", err)
		}
		var id ExternalID
		has := false
		if r.Mapping(value, strictyaml.Fields{
			"ratelimits": func(n *yaml.Node) { has = true; id.Ratelimits = r.limits(n) },
		}) && !has {
			r.Errorf(value, "ratelimits is missing: write `ratelimits: [{name: requests, limit: 1000, duration: 1m}]`")
		}
		r.c.ExternalIDs[name.Value] = id
	})
}

// limits reads a list of rate limits, in the form of a key file.
func (r *reader) limits(n *yaml.Node) []keystore.Ratelimit {
	var limits []keystore.Ratelimit
	bad := len(r.Errors)
	r.Sequence(n, func(n *yaml.Node) {
		var l keystore.Ratelimit
		named := 0
		ok := r.Mapping(n, strictyaml.Fields{
			"name":       func(n *yaml.Node) { named++; l.Name = r.String(n) },
			"limit":      func(n *yaml.Node) { named++; l.Limit = r.Int(n) },
			"duration":   func(n *yaml.Node) { named++; l.Duration = r.Duration(n) },
			"auto_apply": func(n *yaml.Node) { l.OnDemand = !r.Bool(n) },
		})
		switch {
		case !ok || len(r.Errors) > bad:
		case named < 3:
			r.Errorf(n, "a rate limit has a name, a limit and a duration: write {name: requests, limit: 100, duration: 1m}")
		default:
			if err, ok := l.Validate(limits).(interface{ Unwrap() []error }); ok {
				for _, err := range err.Unwrap() {
					r.complain(n, err)
				}
			}
		}
		limits = append(limits, l)
	})
	return limits
}
