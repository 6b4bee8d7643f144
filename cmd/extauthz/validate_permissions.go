package main

import (
	"fmt"
	"maps"
	"slices"

	"extauthz/keystore"
	"extauthz/permission"
)

// A permissionCheck finds roles and permissions of keys that are probably mistakes. It reports each
// once, with the first key that has it.
type permissionCheck struct {
	roles      permission.Roles
	undefined  map[string]*holders // roles
	suspicious map[string]*holders // permissions
}

// holders are the keys that share a mistake.
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

func newPermissionCheck(roles permission.Roles) *permissionCheck {
	return &permissionCheck{roles, make(map[string]*holders), make(map[string]*holders)}
}

func (c *permissionCheck) add(k *keystore.Key) {
	count := func(in map[string]*holders, what string) {
		if h := in[what]; h != nil {
			h.more++
		} else {
			in[what] = &holders{first: k.ID}
		}
	}
	for _, role := range c.roles.Unknown(k.Roles) {
		count(c.undefined, role)
	}
	for _, p := range k.Permissions {
		if permission.Suspicious(p) != "" {
			count(c.suspicious, p)
		}
	}
}

func (c *permissionCheck) report(warn func(error)) {
	for _, role := range slices.Sorted(maps.Keys(c.undefined)) {
		warn(fmt.Errorf("%s the role %q, which has no permissions: define it under roles in the configuration", c.undefined[role], role))
	}
	for _, p := range slices.Sorted(maps.Keys(c.suspicious)) {
		warn(fmt.Errorf("%s the permission %q, %s", c.suspicious[p], p, permission.Suspicious(p)))
	}
}
