package config

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"extauthz/keystore"
	"extauthz/permission"
	"extauthz/ratelimit"
	"extauthz/route"
	"extauthz/strictyaml"
)

// each reads a mapping whose keys are chosen by the operator.
func (r *reader) each(n *yaml.Node, read func(name, value *yaml.Node)) {
	fields := strictyaml.Fields{}
	if m := strictyaml.Resolve(n); m.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(m.Content); i += 2 {
			if name := m.Content[i]; name.Kind == yaml.ScalarNode {
				if _, twice := fields[name.Value]; !twice {
					fields[name.Value] = func(value *yaml.Node) { read(name, value) }
				}
			}
		}
	}
	r.Mapping(n, fields)
}

func (r *reader) roles(n *yaml.Node) {
	r.c.Roles = permission.Roles{}
	r.each(n, func(name, value *yaml.Node) {
		if err := keystore.ValidatePermission(name.Value); err != nil {
			r.Errorf(name, "the name of a role: %v", err)
		}
		r.c.Roles[name.Value] = r.strings(value, r.permission)
	})
}

// permission reads the name of a permission.
func (r *reader) permission(n *yaml.Node) (string, bool) {
	s, ok := value(r, n, r.String)
	if !ok {
		return "", false
	}
	if err := keystore.ValidatePermission(s); err != nil {
		r.refuse(n, s, err, "a permission such as documents.read")
		return "", false
	}
	if why := permission.Suspicious(s); why != "" {
		r.Warnf(n, "the permission %q, %s", written(n), why)
	}
	return s, true
}

// refuse reports an error in a string, without the values of variables in it.
func (r *reader) refuse(n *yaml.Node, s string, err error, what string) {
	if s != written(n) {
		r.Errorf(n, "the value of %q is not %s", written(n), what)
		return
	}
	r.Errorf(n, "%v", err)
}

// complain reports an error in n, without the values of its variables.
func (r *reader) complain(n *yaml.Node, err error) {
	if hasVariable(n) {
		r.Errorf(n, "the values of the variables in this cannot be used here")
		return
	}
	r.Errorf(n, "%v", err)
}

func hasVariable(n *yaml.Node) bool {
	n = strictyaml.Resolve(n)
	return n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "${") || slices.ContainsFunc(n.Content, hasVariable)
}

// strings reads a list, each entry with each.
func (r *reader) strings(n *yaml.Node, each func(*yaml.Node) (string, bool)) []string {
	list := []string{}
	r.Sequence(n, func(n *yaml.Node) {
		if s, ok := each(n); ok {
			list = append(list, s)
		}
	})
	return list
}

// A routeNode locates a rule and its fields.
type routeNode struct {
	rule   *yaml.Node
	fields map[string]*yaml.Node
}

func (r *reader) routes(n *yaml.Node) {
	var rules []route.Rule
	bad := len(r.Errors)
	r.Sequence(n, func(n *yaml.Node) {
		rule, node := r.route(n)
		rules, r.routeNodes = append(rules, rule), append(r.routeNodes, node)
	})
	if len(r.Errors) == bad { // an incomplete rule would be reported twice
		r.c.Routes = rules
	}
}

func (r *reader) paths(n *yaml.Node) {
	r.Mapping(n, strictyaml.Fields{
		"ignore_case": func(n *yaml.Node) { r.c.Paths.IgnoreCase = r.Bool(n) },
	})
}

// checkRoutes validates the rules together, after paths has been read.
func (r *reader) checkRoutes() {
	rules, nodes := r.c.Routes, r.routeNodes
	for i := range rules {
		if nodes[i].fields["ignore_case"] == nil {
			rules[i].IgnoreCase = r.c.Paths.IgnoreCase
		}
	}
	_, errs := route.New(rules)
	for _, e := range errs {
		n := nodes[e.Index].fields[e.Field]
		if n == nil {
			n = nodes[e.Index].rule
		}
		r.complain(n, e.Err)
	}
	if errs == nil {
		for i, rule := range rules {
			r.warnMethods(nodes[i].fields["methods"], rule)
		}
	}
}

func (r *reader) route(n *yaml.Node) (route.Rule, routeNode) {
	var rule route.Rule
	at := routeNode{n, make(map[string]*yaml.Node)}
	list := func(field string, to *[]string) func(*yaml.Node) {
		return func(n *yaml.Node) {
			at.fields[field] = n
			*to = r.strings(n, func(n *yaml.Node) (string, bool) { return value(r, n, r.String) })
			if len(*to) == 0 && empty(n) {
				r.Errorf(n, "the list is empty, so the rule would match nothing: omit %s to match all", field)
			}
		}
	}
	ok := r.Mapping(n, strictyaml.Fields{
		"hosts":       list("hosts", &rule.Hosts),
		"methods":     list("methods", &rule.Methods),
		"path_prefix": func(n *yaml.Node) { at.fields["path_prefix"] = n; rule.PathPrefix = r.String(n) },
		"ignore_case": func(n *yaml.Node) { at.fields["ignore_case"] = n; rule.IgnoreCase = r.Bool(n) },
		"permissions": func(n *yaml.Node) {
			at.fields["permissions"] = n
			rule.Permissions = r.requirement(n, "a query such as documents.read OR admin", func(s string) error {
				q, err := permission.Parse(s)
				r.warnNames(n, q)
				return err
			})
		},
		"ratelimits": func(n *yaml.Node) {
			at.fields["ratelimits"] = n
			rule.Ratelimits = r.requirement(n, "costs such as exports=1", func(s string) error { _, err := ratelimit.ParseCosts(s); return err })
		},
	})
	if ok && at.fields["permissions"] == nil && at.fields["ratelimits"] == nil {
		r.Errorf(n, "the rule requires nothing: write `permissions: documents.read` or `ratelimits: exports=1`, or `permissions: \"\"` for an exception below another rule")
	}
	return rule, at
}

// warnNames warns about names in a rule's query that are probably mistakes.
func (r *reader) warnNames(n *yaml.Node, q *permission.Query) {
	for _, name := range q.Names() {
		if why := permission.Suspicious(name); why != "" && !hasVariable(n) {
			r.Warnf(n, "the permission %q, %s", name, why)
		}
	}
}

// requirement reads what a rule requires; "" requires nothing.
func (r *reader) requirement(n *yaml.Node, what string, check func(string) error) string {
	s, ok := value(r, n, r.String)
	if ok && s != "" {
		if err := check(s); err != nil {
			r.refuse(n, s, err, what)
		}
	}
	return s
}

// methods are those of RFC 9110 section 9, RFC 5789 and WebDAV (RFC 4918) in common use.
var methods = []string{
	"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
	"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH", "QUERY",
}

// warnMethods warns about methods for which the rule probably never matches.
func (r *reader) warnMethods(n *yaml.Node, rule route.Rule) {
	for _, m := range rule.Methods {
		switch {
		case m == "CONNECT" && rule.PathPrefix != "" && rule.PathPrefix != "/":
			r.Warnf(n, "CONNECT requests have no path, so this rule never matches one, and they are refused")
		case !slices.Contains(methods, m) && !hasVariable(n):
			r.Warnf(n, "%s is not a common method: is it spelled correctly?", m)
		}
	}
}
