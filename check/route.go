package check

import (
	"strings"
	"sync"

	"extauthz/authz"
)

// requirements returns what the route requires of a key: from its context extensions, and for
// fields that they do not set, from the configured rule.
func (c *Checker) requirements(a *Attributes) authz.Request {
	var r authz.Request
	var hasPermissions, hasRatelimits bool
	for _, f := range a.Extensions {
		switch f.Name {
		case "permissions":
			r.Permissions, hasPermissions = f.Value, true
		case "ratelimits":
			r.Ratelimits, hasRatelimits = f.Value, true
		default:
			c.unknown.add(f.Name)
		}
	}
	if c.routes == nil || hasPermissions && hasRatelimits {
		return r
	}
	match := c.routes.Match
	if a.PathCleaned {
		match = c.routes.MatchCleaned
	}
	rule, err := match(a.Host, a.Method, a.Path)
	switch {
	case err != nil:
		r.RouteErr = err
	case rule != nil:
		if !hasPermissions {
			r.Permissions = rule.Permissions
		}
		if !hasRatelimits {
			r.Ratelimits = rule.Ratelimits
		}
	}
	return r
}

// unknownNames reports unknown names, each once. It is safe for concurrent use.
type unknownNames struct {
	report func(string) // may be nil

	mu    sync.Mutex
	known map[string]bool
}

const maxUnknownNames = 100

func (u *unknownNames) add(name string) {
	if u.report == nil {
		return
	}
	u.mu.Lock()
	known := u.known[name] || len(u.known) >= maxUnknownNames
	if !known {
		if u.known == nil {
			u.known = make(map[string]bool)
		}
		name = strings.Clone(name) // the request's memory is reused
		u.known[name] = true
	}
	u.mu.Unlock()
	if !known {
		u.report(name)
	}
}
