package check

import (
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"
)

// Query is the source of a secret that is the value of a query parameter, in whatever way its
// name is percent-encoded.
func Query(name string) KeySource { return querySource{name} }

type querySource struct{ name string }

func (q querySource) Validate() error {
	if q.name == "" || slices.ContainsFunc([]byte(q.name), func(c byte) bool { return c <= ' ' || c > '~' || strings.IndexByte("&=+%#", c) >= 0 }) {
		return fmt.Errorf("query: %q is not a plain name: write printable ASCII without & = + %% # and spaces, such as api_key", q.name)
	}
	return nil
}

func (q querySource) place() string { return "query " + q.name }

func (q querySource) String() string { return q.place() }

func (q querySource) scheme() string { return defaultScheme }

// find returns the decoded value of the parameter. One that cannot be decoded comes with a
// comma after it, so that it is nobody's secret.
func (q querySource) find(a *Attributes) string {
	value, seen := "", 0
	for _, raw := range queryParameters(a.Path, q.name) {
		v, err := url.QueryUnescape(raw)
		if err != nil {
			v = raw + ","
		}
		if seen++; seen == 1 {
			value = v
			continue
		}
		value += "," + v
		if seen == 2 {
			break // nothing that follows makes it anyone's
		}
	}
	return value
}

// strip removes each spelling in which the query has the parameter: they are removed by their
// raw names.
func (q querySource) strip(a *Attributes, o *Outcome) {
	for raw := range queryParameters(a.Path, q.name) {
		o.RemoveQuery = appendMissing(o.RemoveQuery, raw)
	}
}

// queryParameters yields the raw name and value of each parameter of the path's query called
// name, in whatever way the name is percent-encoded. The query is split where Envoy splits
// it: after the first "?", at each "&", and at the first "=".
func queryParameters(path, name string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		_, query, _ := strings.Cut(path, "?")
		for query != "" {
			var parameter string
			parameter, query, _ = strings.Cut(query, "&")
			raw, value, _ := strings.Cut(parameter, "=")
			if decoded, err := url.QueryUnescape(raw); err != nil || decoded != name {
				continue
			}
			if !yield(raw, value) {
				return
			}
		}
	}
}
