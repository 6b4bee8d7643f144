// Package route finds the configured rule for a request's host, method and path, such that no
// other spelling of the path avoids the rule.
package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Rule is what the operator requires of keys on the routes that it matches.
type Rule struct {
	// Hosts are names or IP addresses, without a port, compared without case; *.example.com
	// matches every name below example.com, at any depth. Empty: every host.
	Hosts []string

	// PathPrefix begins with a slash and is compared by whole segments: /admin matches /admin,
	// /admin/ and /admin/users, but neither /administrator nor /admin.json. Empty or "/": every
	// path, even an ambiguous one.
	PathPrefix string

	// IgnoreCase compares PathPrefix without case, for upstreams that ignore case: /admin then
	// matches /Admin too, and /caf%C3%A9 matches /CAF%C3%89.
	IgnoreCase bool

	// Methods are compared without case; GET matches HEAD too, unless a rule for the same hosts
	// and path names HEAD. Empty: every method.
	Methods []string

	Permissions string // a query; empty for no requirement
	Ratelimits  string // costs; empty for none
}

// A Table is a set of rules. It is immutable and safe for concurrent use. The zero value and nil
// have no rules.
type Table struct {
	exact map[string][]entry // by host
	below map[string][]entry // by the end of the host, such as .example.com for *.example.com
	every []entry            // for every host
}

// An entry is a rule for one of its hosts. The entries of a host are in the order of matching.
type entry struct {
	rule    *Rule
	prefix  string // normal, without its trailing slash; empty for every path
	folded  folded // the prefix without case
	methods []string
}

// A RuleError is an error in a rule.
type RuleError struct {
	Index int    // of the rule in the list
	Field string // hosts, path_prefix or methods
	Err   error
}

// Error returns the error as routes[i].field: message.
func (e *RuleError) Error() string { return fmt.Sprintf("routes[%d].%s: %v", e.Index, e.Field, e.Err) }

// Unwrap returns the error without its location.
func (e *RuleError) Unwrap() error { return e.Err }

// New returns a table of the rules, or every error in them: fields that cannot be parsed, and
// rules for the same host, path and method. It does not parse Permissions and Ratelimits.
func New(rules []Rule) (*Table, []*RuleError) {
	t := &Table{exact: make(map[string][]entry), below: make(map[string][]entry)}
	rules = slices.Clone(rules)
	var errs []*RuleError
	for i := range rules {
		rule := &rules[i]
		fail := func(field string, err error) { errs = append(errs, &RuleError{i, field, err}) }
		e := entry{rule: rule}
		var err error
		if e.prefix, err = parsePrefix(rule.PathPrefix); err != nil {
			fail("path_prefix", err)
			continue
		}
		e.folded = fold(e.prefix)
		if e.methods, err = parseMethods(rule.Methods); err != nil {
			fail("methods", err)
			continue
		}
		if len(rule.Hosts) == 0 {
			if t.every, err = add(t.every, e); err != nil {
				fail("path_prefix", err)
			}
		}
		for _, h := range rule.Hosts {
			if err := t.addHost(h, e); err != nil {
				fail("hosts", err)
			}
		}
	}
	if errs != nil {
		return nil, errs
	}
	arrange(t.every)
	for _, byHost := range []map[string][]entry{t.exact, t.below} {
		for _, entries := range byHost {
			arrange(entries)
		}
	}
	return t, nil
}

func (t *Table) addHost(host string, e entry) error {
	host, err := parseHost(host)
	if err != nil {
		return err
	}
	byHost := t.exact
	if name, ok := strings.CutPrefix(host, "*"); ok {
		host, byHost = name, t.below
	}
	byHost[host], err = add(byHost[host], e)
	return err
}

func add(entries []entry, e entry) ([]entry, error) {
	for _, o := range entries {
		both := slices.ContainsFunc(e.methods, func(m string) bool { return slices.Contains(o.methods, m) })
		if both || len(o.methods) == 0 && len(e.methods) == 0 {
			switch {
			case o.prefix == e.prefix:
				return entries, errors.New("an earlier rule is for the same host, path and method: merge them")
			case o.folded.wide == e.folded.wide && (o.rule.IgnoreCase || e.rule.IgnoreCase):
				return entries, errors.New("an earlier rule is for the same host, path and method apart from the case of the path, which is ignored: merge them")
			}
		}
	}
	return append(entries, e), nil
}

// arrange sorts the most specific entry first: the one with the most segments, then one with
// methods.
func arrange(entries []entry) {
	for i, e := range entries {
		if slices.Contains(e.methods, "GET") && !slices.ContainsFunc(entries, func(o entry) bool {
			return o.prefix == e.prefix && slices.Contains(o.methods, "HEAD")
		}) {
			entries[i].methods = append(slices.Clip(e.methods), "HEAD")
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int {
		// Compare segments, since two prefixes that differ only in case may differ in length.
		if d := strings.Count(b.prefix, "/") - strings.Count(a.prefix, "/"); d != 0 {
			return d
		}
		return min(len(b.methods), 1) - min(len(a.methods), 1)
	})
}

// Match returns the most specific rule for a request, or nil if no rule matches. A rule for the
// exact host comes before one for *.name, a longer name before a shorter one, and those before
// one for every host; then the longest path prefix wins, then a rule with the method.
//
// path may be followed by a query. If the rule depends on a host or path whose meaning servers
// disagree on, the error is [ErrAmbiguous], and the request must be refused. See [NormalizeHost]
// and [NormalizePath].
func (t *Table) Match(host, method, path string) (*Rule, error) {
	return t.match(host, matcher{method: method, path: path})
}

// MatchCleaned is Match for a path in which a "!" may replace a byte that is not UTF-8, as
// reported by Envoy. The upstream receives the byte itself, and some servers ignore such bytes or
// decode them as slashes or dots. A path with a "!" is therefore ambiguous; "%21" is not.
func (t *Table) MatchCleaned(host, method, path string) (*Rule, error) {
	return t.match(host, matcher{method: method, path: path, cleaned: true})
}

func (t *Table) match(host string, m matcher) (*Rule, error) {
	if t == nil {
		return nil, nil
	}
	if len(t.exact)+len(t.below) > 0 {
		host, err := NormalizeHost(host)
		if err != nil {
			return nil, err
		}
		if rule, err := m.among(t.exact[host]); rule != nil || err != nil {
			return rule, err
		}
		// The parent domains, the nearest first.
		for i := range len(host) {
			if host[i] == '.' && i > 0 {
				if rule, err := m.among(t.below[host[i:]]); rule != nil || err != nil {
					return rule, err
				}
			}
		}
	}
	return m.among(t.every)
}

// A matcher is the state of one Match. It normalizes the path when a rule first depends on it,
// and folds it when a rule that ignores case does.
type matcher struct {
	method, path string
	cleaned      bool
	normal       bool   // path is normal
	folded       folded // path without case; empty until it is needed
}

func (m *matcher) among(entries []entry) (*Rule, error) {
	for i := range entries {
		e := &entries[i]
		if len(e.methods) > 0 && !slices.ContainsFunc(e.methods, func(o string) bool { return strings.EqualFold(o, m.method) }) {
			continue
		}
		if ok, err := m.under(e); err != nil {
			return nil, err
		} else if ok {
			return e.rule, nil
		}
	}
	return nil, nil
}

// under reports whether the entry matches the path.
func (m *matcher) under(e *entry) (bool, error) {
	if e.prefix == "" {
		return true, nil
	}
	if err := m.normalize(); err != nil {
		return false, err
	}
	if !e.rule.IgnoreCase {
		return under(m.path, e.prefix), nil
	}
	if m.folded.narrow == "" {
		m.folded = fold(m.path)
	}
	return m.folded.under(e.folded)
}

func (m *matcher) normalize() error {
	if m.normal {
		return nil
	}
	if raw, _, _ := strings.Cut(m.path, "?"); m.cleaned && strings.Contains(raw, "!") {
		return ambiguous(`a "!" that may stand for a byte that is not UTF-8 (with encode_raw_headers: true, Envoy sends both apart)`)
	}
	path, err := NormalizePath(m.path)
	m.path, m.normal = path, err == nil
	return err
}

// parsePrefix returns a path prefix in normal form, without its trailing slash.
func parsePrefix(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if s[0] != '/' {
		return "", fmt.Errorf("%q does not begin with a slash: write %q", s, "/"+s)
	}
	if strings.ContainsAny(s, "?#*") {
		return "", fmt.Errorf("%q contains a character that no prefix can match: write only the path, such as /admin, which also matches every path below it", s)
	}
	normal, err := NormalizePath(s)
	if err != nil {
		return "", fmt.Errorf("%q: every request for it would be refused: %w", s, err)
	}
	return strings.TrimSuffix(normal, "/"), nil
}

// parseMethods validates methods, which are tokens (RFC 9110 section 9.1).
func parseMethods(methods []string) ([]string, error) {
	for i, m := range methods {
		switch {
		case m == "" || strings.Trim(m, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "":
			return nil, fmt.Errorf("%q is not a method: write it in upper case, such as GET or POST", m)
		case slices.Contains(methods[:i], m):
			return nil, fmt.Errorf("%q is repeated: write it once", m)
		}
	}
	return methods, nil
}
