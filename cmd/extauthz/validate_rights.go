package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"extauthz/backend"
	"extauthz/config"
	"extauthz/keystore"
	"extauthz/permission"
	"extauthz/ratelimit"
)

// A rightsCheck looks at what the keys may do, for what hardly is meant. Each thing is told
// once, by the first key that has it.
type rightsCheck struct {
	roles   permission.Roles
	unknown map[string]*holders // roles that nobody defined
	odd     map[string]*holders // permissions that are likely mistakes
}

// holders are the keys that have something.
type holders struct {
	first string // a key's id
	more  int
}

func (h *holders) String() string {
	if h.more == 0 {
		return fmt.Sprintf("key %q has", h.first)
	}
	return fmt.Sprintf("key %q and %d more have", h.first, h.more)
}

func newRightsCheck(roles permission.Roles) *rightsCheck {
	return &rightsCheck{roles, make(map[string]*holders), make(map[string]*holders)}
}

func (c *rightsCheck) look(k *keystore.Key) {
	note := func(in map[string]*holders, what string) {
		if h := in[what]; h != nil {
			h.more++
		} else {
			in[what] = &holders{first: k.ID}
		}
	}
	for _, role := range c.roles.Unknown(k.Roles) {
		note(c.unknown, role)
	}
	for _, p := range k.Permissions {
		if permission.Suspicious(p) != "" {
			note(c.odd, p)
		}
	}
}

func (c *rightsCheck) tell(warn func(error)) {
	for _, role := range slices.Sorted(maps.Keys(c.unknown)) {
		warn(fmt.Errorf("%s the role %q, which stands for nothing: define it under roles in the configuration", c.unknown[role], role))
	}
	for _, p := range slices.Sorted(maps.Keys(c.odd)) {
		warn(fmt.Errorf("%s the permission %q, %s", c.odd[p], p, permission.Suspicious(p)))
	}
}

// validateLimiter opens what holds the rate limits. One that cannot be asked now is a warning:
// the configuration may be right.
func validateLimiter(ctx context.Context, c config.Ratelimit, warn func(error)) error {
	l, err := backend.OpenLimiter(ctx, c)
	if err != nil {
		return err
	}
	defer l.Close()
	_, err = l.Look(ctx, ratelimit.Subject{Key: "validate"}, []ratelimit.Charge{{Name: "validate", Limit: 1, Duration: time.Second}})
	if err != nil {
		warn(fmt.Errorf("the rate limits cannot be asked: %s", oneLine(err)))
	}
	return nil
}
