package check

import (
	"fmt"
	"strings"
)

// Cookie is the source of a secret that is the value of a cookie (RFC 6265 section 4.2.1),
// without the quotes that it may stand in.
func Cookie(name string) KeySource { return cookieSource{name} }

type cookieSource struct{ name string }

func (c cookieSource) Validate() error {
	if !isToken(c.name) {
		return fmt.Errorf("cookie: %q is not the name of a cookie: write one such as api_key", c.name)
	}
	return nil
}

func (c cookieSource) place() string { return "cookie " + c.name }

func (c cookieSource) String() string { return c.place() }

func (c cookieSource) scheme() string { return defaultScheme }

func (c cookieSource) find(a *Attributes) string {
	header, _ := a.Header("cookie")
	value, seen := "", false
	for pair := range strings.SplitSeq(header, ";") {
		if !holdsCookie(pair, c.name) {
			continue
		}
		n, v, _ := strings.Cut(pair, "=")
		if seen || strings.Trim(n, " \t") != c.name {
			return value + "," + v
		}
		value, seen = unquote(strings.Trim(v, " \t")), true
	}
	return value
}

// strip cuts the cookie out of the cookie header, or of what is left of it after another
// source's strip.
func (c cookieSource) strip(a *Attributes, o *Outcome) {
	i := o.setHeader("cookie")
	header, _ := a.Header("cookie")
	if i >= 0 {
		header = o.SetHeaders[i].Value
	}
	rest, found := withoutCookie(header, c.name)
	switch {
	case !found:
	case rest == "":
		if i >= 0 { // never both: Envoy removes after it sets
			o.SetHeaders = append(o.SetHeaders[:i], o.SetHeaders[i+1:]...)
		}
		o.removeHeader("cookie")
	case i >= 0:
		o.SetHeaders[i].Value = rest
	default:
		o.SetHeaders = append(o.SetHeaders, Field{"cookie", rest})
	}
}

// withoutCookie returns the header without the cookie of this name, and whether it held it.
func withoutCookie(header, name string) (rest string, found bool) {
	var kept []string
	for pair := range strings.SplitSeq(header, ";") {
		pair = strings.Trim(pair, " \t")
		switch {
		case holdsCookie(pair, name):
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
