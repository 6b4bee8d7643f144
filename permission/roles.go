package permission

import "slices"

// Roles are names for lists of permissions. A nil map knows none. It must not change while it
// is in use.
type Roles map[string][]string

// Grant reports whether the permission is among those held, or among those that one of the
// roles stands for. A role that is not known stands for no permissions.
func (r Roles) Grant(permission string, held, roles []string) bool {
	return slices.Contains(held, permission) ||
		slices.ContainsFunc(roles, func(role string) bool { return slices.Contains(r[role], permission) })
}

// Unknown returns those of the roles that stand for nothing because nobody defined them.
func (r Roles) Unknown(roles []string) []string {
	var unknown []string
	for _, role := range roles {
		if _, ok := r[role]; !ok {
			unknown = append(unknown, role)
		}
	}
	return unknown
}
