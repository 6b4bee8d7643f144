package envoy

import (
	"slices"
	"strings"
)

// cookieValue returns the value of the cookie in a cookie header (RFC 6265 section 4.2.1),
// without the quotes that it may stand in; empty where there is none. A repeated one comes
// with a comma, so that it is nobody's secret.
func cookieValue(header, name string) string {
	value, seen := "", false
	for pair := range strings.SplitSeq(header, ";") {
		if !holdsCookie(pair, name) {
			continue
		}
		n, v, _ := strings.Cut(pair, "=")
		if seen || strings.Trim(n, " \t") != name {
			return value + "," + v
		}
		value, seen = unquote(strings.Trim(v, " \t")), true
	}
	return value
}

// withoutCookies returns the header without the cookies of these names, and whether it held
// any.
func withoutCookies(header string, names []string) (rest string, found bool) {
	var kept []string
	for pair := range strings.SplitSeq(header, ";") {
		pair = strings.Trim(pair, " \t")
		switch {
		case slices.ContainsFunc(names, func(name string) bool { return holdsCookie(pair, name) }):
			found = true
		case pair != "":
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "; "), found
}

// holdsCookie reports whether the cookie is in the pair. Two cookie headers come joined by a
// comma, so that a pair may hold the end of one and the start of another.
func holdsCookie(pair, name string) bool {
	for part := range strings.SplitSeq(pair, ",") {
		n, _, _ := strings.Cut(part, "=")
		if strings.Trim(n, " \t") == name {
			return true
		}
	}
	return false
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}
