package check

import (
	"errors"
	"iter"
	"strings"
)

// Cookie is the source of a secret that is the value of a cookie (RFC 6265 section 4.2.1),
// without quotes around it.
func Cookie(name string) KeySource { return cookieSource{name} }

type cookieSource struct{ name string }

func (c cookieSource) Validate() error {
	if !isToken(c.name) {
		return errors.New("not the name of a cookie: write letters, digits and - or _, such as api_key")
	}
	return nil
}

func (c cookieSource) place() string { return "cookie " + c.name }

func (c cookieSource) String() string { return c.place() }

func (c cookieSource) scheme() string { return defaultScheme }

func (c cookieSource) find(a *Attributes) string {
	var found repeatable
	header, _ := a.Header("cookie")
	for pair := range cookies(header) {
		if cookieName(pair) == c.name {
			_, value, _ := strings.Cut(pair, "=")
			found.add(unquote(strings.TrimLeft(value, " \t")))
		}
	}
	return found.value()
}

// strip removes the cookie from the cookie header, after the changes of other sources. Several
// headers become one, which RFC 6265 section 5.4 requires of clients.
func (c cookieSource) strip(a *Attributes, o *Outcome) {
	header, _ := a.Header("cookie")
	i := o.setHeader("cookie")
	if i >= 0 {
		header = o.SetHeaders[i].Value
	}
	if !c.in(header) {
		return
	}
	switch rest := c.without(header); {
	case rest != "" && i >= 0:
		o.SetHeaders[i].Value = rest
	case rest != "":
		o.SetHeaders = append(o.SetHeaders, Field{"cookie", rest})
	default:
		if i >= 0 {
			o.SetHeaders = append(o.SetHeaders[:i], o.SetHeaders[i+1:]...)
		}
		o.removeHeader("cookie")
	}
}

// in reports whether the header contains the cookie.
func (c cookieSource) in(header string) bool {
	for pair := range cookies(header) {
		if cookieName(pair) == c.name {
			return true
		}
	}
	return false
}

// without returns the header without the cookie.
func (c cookieSource) without(header string) string {
	kept := make([]byte, 0, len(header)+8)
	for pair := range cookies(header) {
		if pair == "" || cookieName(pair) == c.name {
			continue
		}
		if len(kept) > 0 {
			kept = append(kept, "; "...)
		}
		kept = append(kept, pair...)
	}
	return string(kept)
}

// cookies yields the pairs of a cookie header, without the spaces around them.
func cookies(header string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for header != "" {
			var pair string
			pair, header = nextCookie(header)
			if !yield(strings.Trim(pair, " \t")) {
				return
			}
		}
	}
}

// cookieName returns the name of a pair.
func cookieName(pair string) string {
	name, _, _ := strings.Cut(pair, "=")
	return strings.TrimRight(name, " \t")
}

// nextCookie returns the first pair of a cookie header, and the rest. Pairs end at a ";". Several
// headers are joined by commas, so a pair also ends at a comma that is followed by the name of a
// cookie and a "=": a cookie's value has no comma (RFC 6265 section 4.1.1). An invalid value with
// another comma is not split.
func nextCookie(header string) (pair, rest string) {
	for i := range len(header) {
		if header[i] == ';' || header[i] == ',' && beginsCookie(header[i+1:]) {
			return header[:i], header[i+1:]
		}
	}
	return header, ""
}

// beginsCookie reports whether the text begins with a cookie's name and a "=".
func beginsCookie(s string) bool {
	s = strings.TrimLeft(s, " \t")
	n := 0
	for n < len(s) && isTokenByte(s[n]) {
		n++
	}
	return n > 0 && strings.HasPrefix(strings.TrimLeft(s[n:], " \t"), "=")
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}
