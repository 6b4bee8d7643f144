package envoy

import (
	"iter"
	"net/url"
	"strings"
)

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

// queryValue returns the decoded value of the parameter; empty where there is none. A
// repeated one comes joined by commas, and one that cannot be decoded with a comma after it,
// so that neither is anyone's secret.
func queryValue(path, name string) string {
	value, seen := "", 0
	for _, raw := range queryParameters(path, name) {
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

// appendQueryNames appends each spelling in which the path's query has the parameter: Envoy
// removes parameters by their raw names.
func appendQueryNames(names []string, path, name string) []string {
	for raw := range queryParameters(path, name) {
		names = appendMissing(names, raw)
	}
	return names
}
