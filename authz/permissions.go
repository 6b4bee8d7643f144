package authz

import (
	"fmt"
	"strings"
)

// permitted asks the key what the route asks for. A query that cannot be read is the
// operator's fault, so no decision is made; a request for which no rule can be told is the
// caller's.
func (e *evaluation) permitted() (bool, error) {
	if e.request.RouteErr != nil {
		return false, nil //nolint:nilerr // it is the reason of a refusal
	}
	if e.request.Permissions == "" {
		return true, nil
	}
	query, err := e.a.queries.get(e.request.Permissions, e.a.tellBad)
	if err != nil {
		return false, err
	}
	return query.Holds(e.has), nil
}

func (e *evaluation) has(permission string) bool {
	return e.a.roles.Grant(permission, e.key.Permissions, e.key.Roles)
}

func (e *evaluation) sayPermitted(ok bool) string {
	if e.request.RouteErr != nil {
		return "what the route asks for could not be told: " + e.request.RouteErr.Error()
	}
	if e.request.Permissions == "" {
		return "the route asks for no permissions"
	}
	query, err := e.a.queries.get(e.request.Permissions, nil)
	if err != nil {
		return err.Error()
	}
	if ok {
		return fmt.Sprintf("the key has what the route asks for: %s", query)
	}
	says := fmt.Sprintf("the route asks for %s; the key does not have %s", query, strings.Join(query.Missing(e.has), ", "))
	if unknown := e.a.roles.Unknown(e.key.Roles); len(unknown) > 0 {
		says += fmt.Sprintf(", and nobody says what its role %s stands for", strings.Join(unknown, ", "))
	}
	return says
}
