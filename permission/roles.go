package permission

import "slices"

// Roles maps the names of roles to their permissions. A nil map has none. The map must not be
// modified while in use.
type Roles map[string][]string

// Grant reports whether the permission is in held, or granted by one of the roles. An undefined
// role grants nothing.
func (r Roles) Grant(permission string, held, roles []string) bool {
	return slices.Contains(held, permission) ||
		slices.ContainsFunc(roles, func(role string) bool { return slices.Contains(r[role], permission) })
}

// Unknown returns the roles that are not defined.
func (r Roles) Unknown(roles []string) []string {
	var unknown []string
	for _, role := range roles {
		if _, ok := r[role]; !ok {
			unknown = append(unknown, role)
		}
	}
	return unknown
}
