package authz

import (
	"fmt"
	"strings"
)

// permitted checks that the key satisfies the route's query. A query that cannot be parsed is
// the operator's mistake, so there is no decision; an ambiguous request is the caller's, and is
// refused.
func (e *evaluation) permitted() (bool, error) {
	if e.request.RouteErr != nil {
		return false, nil //nolint:nilerr // the reason for a refusal
	}
	if e.request.Permissions == "" {
		return true, nil
	}
	query, err := e.a.queries.get(e.request.Permissions, e.a.badRequirement)
	if err != nil {
		return false, err
	}
	return query.Holds(e.has), nil
}

func (e *evaluation) has(permission string) bool {
	return e.a.roles.Grant(permission, e.key.Permissions, e.key.Roles)
}

func (e *evaluation) explainPermitted(ok bool) string {
	if e.request.RouteErr != nil {
		return "the requirements of the route are unknown: " + e.request.RouteErr.Error()
	}
	if e.request.Permissions == "" {
		return "the route requires no permissions"
	}
	query, err := e.a.queries.get(e.request.Permissions, nil)
	if err != nil {
		return err.Error()
	}
	if ok {
		return fmt.Sprintf("the key has what the route requires: %s", query)
	}
	text := fmt.Sprintf("the route requires %s; the key does not have %s", query, strings.Join(query.Missing(e.has), ", "))
	if unknown := e.a.roles.Unknown(e.key.Roles); len(unknown) > 0 {
		text += fmt.Sprintf(", and its role %s is not defined", strings.Join(unknown, ", "))
	}
	return text
}
