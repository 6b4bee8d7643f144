package check

import (
	"errors"
	"fmt"
	"strings"
)

// Header is the source of a secret that is the whole value of a header; name in any case. The
// header is removed even if the request does not show it: the proxy may hide it.
func Header(name string) KeySource { return headerSource{strings.ToLower(name)} }

type headerSource struct{ name string }

func (h headerSource) Validate() error {
	if h.name == "cookie" {
		return errors.New("the header cookie holds many values: write cookie: NAME, with the name of the one cookie")
	}
	return validateHeaderName(h.name)
}

func (h headerSource) find(a *Attributes) string {
	value, _ := a.Header(h.name)
	return value
}

func (h headerSource) strip(_ *Attributes, o *Outcome) { o.removeHeader(h.name) }

func (h headerSource) place() string { return "header " + h.name }

func (h headerSource) String() string { return h.place() }

func (h headerSource) scheme() string { return defaultScheme }

// Scheme is the source of a secret that follows an authentication scheme in a header, such as
// Bearer in authorization (RFC 9110 section 11.4); both in any case. A header with another
// scheme counts as absent, and goes upstream.
func Scheme(header, scheme string) KeySource {
	return schemeSource{headerSource{strings.ToLower(header)}, strings.ToLower(scheme), scheme}
}

type schemeSource struct {
	header headerSource
	name   string // in lower case
	given  string
}

func (s schemeSource) Validate() error {
	if !isToken(s.name) {
		return errors.New("not the name of an authentication scheme: write one such as Bearer")
	}
	return s.header.Validate()
}

// find returns what follows the scheme. If the scheme is in a list, it returns the whole list:
// it is ambiguous which element counts, and with its commas the list matches no key.
func (s schemeSource) find(a *Attributes) string {
	header := s.header.find(a)
	switch {
	case !hasScheme(header, s.name):
		return ""
	case strings.Contains(header, ","):
		return header
	}
	rest := strings.TrimLeft(header, " \t")[len(s.name):]
	secret := strings.TrimLeft(rest, " ")
	if len(secret) == len(rest) {
		return "" // what follows the scheme is not a space
	}
	return secret
}

func (s schemeSource) strip(a *Attributes, o *Outcome) {
	if hasScheme(s.header.find(a), s.name) {
		s.header.strip(a, o)
	}
}

func (s schemeSource) place() string { return s.header.place() }

func (s schemeSource) String() string { return s.place() + ", scheme " + s.name }

func (s schemeSource) scheme() string { return s.given }

// hasScheme reports whether any of the header's comma-separated elements has the scheme.
func hasScheme(header, scheme string) bool {
	for element := range strings.SplitSeq(header, ",") {
		element = strings.Trim(element, " \t")
		n := len(scheme)
		if len(element) >= n && equalFold(element[:n], scheme) &&
			(len(element) == n || element[n] == ' ' || element[n] == '\t') {
			return true
		}
	}
	return false
}

// validateHeaderName checks that name, in lower case, is the name of a header (RFC 9110 section
// 5.1) that has no other meaning to the proxy or to this package.
func validateHeaderName(name string) error {
	switch {
	case !isToken(name):
		return errors.New("not the name of a header: write letters, digits and - or _, such as x-api-key")
	case name == "host":
		return errors.New("host cannot be removed from a request: write another header")
	case isIdentity(name):
		return fmt.Errorf("headers that begin with %s, or the same with _, are removed from every request: write another header", identityPrefix)
	}
	return nil
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func isTokenByte(c byte) bool {
	return c >= '0' && c <= '9' || lower(c) >= 'a' && lower(c) <= 'z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
