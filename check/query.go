package check

import (
	"errors"
	"net/url"
	"slices"
	"strings"
)

// Query is the source of a secret that is the value of a query parameter; its name may be
// percent-encoded in any way. The query is split as Envoy splits it: after the first "?", at
// each "&", and at the first "="; it ends before a "#". A secret in the query is also in every
// log of the full path, such as the proxy's own access log of a refused request.
func Query(name string) KeySource { return querySource{name} }

type querySource struct{ name string }

func (q querySource) Validate() error {
	if q.name == "" || slices.ContainsFunc([]byte(q.name), func(c byte) bool { return c <= ' ' || c > '~' || strings.IndexByte("&=+%#", c) >= 0 }) {
		return errors.New("not the name of a query parameter: write letters, digits and - or _, such as api_key")
	}
	return nil
}

func (q querySource) place() string { return "query " + q.name }

func (q querySource) String() string { return q.place() }

func (q querySource) scheme() string { return defaultScheme }

// find returns the decoded value of the parameter. One that cannot be decoded is returned with a
// comma, so that it matches no key.
func (q querySource) find(a *Attributes) string {
	var found repeatable
	_, query, _ := cutQuery(a.Path)
	for parameter := range strings.SplitSeq(query, "&") {
		raw, value, _ := strings.Cut(parameter, "=")
		if !q.names(raw) {
			continue
		}
		decoded, err := url.QueryUnescape(value)
		if err != nil {
			decoded = value + ","
		}
		found.add(decoded)
	}
	return found.value()
}

// names reports whether the raw name of a parameter is that of the source.
func (q querySource) names(raw string) bool {
	decoded, err := url.QueryUnescape(raw)
	return err == nil && decoded == q.name
}

// strip removes the parameter, in every spelling, from the path, after the changes of other
// sources. The rest is unchanged byte for byte.
func (q querySource) strip(a *Attributes, o *Outcome) {
	path := a.Path
	if o.Path != "" {
		path = o.Path
	}
	before, query, after := cutQuery(path)
	known := len(o.RemoveQuery)
	for parameter := range strings.SplitSeq(query, "&") {
		if raw, _, _ := strings.Cut(parameter, "="); q.names(raw) {
			o.RemoveQuery = appendMissing(o.RemoveQuery, raw)
		}
	}
	if len(o.RemoveQuery) == known {
		return
	}
	kept := append(make([]byte, 0, len(path)), before...)
	separator := byte('?')
	for parameter := range strings.SplitSeq(query, "&") {
		if raw, _, _ := strings.Cut(parameter, "="); !q.names(raw) {
			kept = append(append(kept, separator), parameter...)
			separator = '&'
		}
	}
	o.Path = string(append(kept, after...))
}

// cutQuery returns the query of a path, without its "?", and the text before and after it.
func cutQuery(path string) (before, query, after string) {
	end := len(path)
	if i := strings.IndexByte(path, '#'); i >= 0 {
		end = i
	}
	if i := strings.IndexByte(path[:end], '?'); i >= 0 {
		return path[:i], path[i+1 : end], path[end:]
	}
	return path[:end], "", path[end:]
}
