package envoy

import (
	"strings"
	"sync"

	"extauthz/authz"
)

// demands returns what the route asks of a key: what its context extensions say, and what they
// leave out as the rule of the configuration says.
func (s *Server) demands(a *attributes) authz.Request {
	var r authz.Request
	var hasPermissions, hasRatelimits bool
	for _, f := range a.extensions {
		switch f.name {
		case "permissions":
			r.Permissions, hasPermissions = f.value, true
		case "ratelimits":
			r.Ratelimits, hasRatelimits = f.value, true
		default:
			s.unknown.note(f.name)
		}
	}
	if s.routes == nil || hasPermissions && hasRatelimits {
		return r
	}
	rule, err := s.routes.Match(a.host, a.method, a.path)
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

// unknownNames tells of names that nobody asked about, each once. It is safe for concurrent
// use.
type unknownNames struct {
	tell func(string) // may be nil

	mu   sync.Mutex
	told map[string]bool
}

const maxUnknownNames = 100

func (u *unknownNames) note(name string) {
	if u.tell == nil {
		return
	}
	u.mu.Lock()
	known := u.told[name] || len(u.told) >= maxUnknownNames
	if !known {
		if u.told == nil {
			u.told = make(map[string]bool)
		}
		name = strings.Clone(name) // the request's memory is used again
		u.told[name] = true
	}
	u.mu.Unlock()
	if !known {
		u.tell(name)
	}
}
