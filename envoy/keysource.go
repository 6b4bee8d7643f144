package envoy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A KeySource is one place where a secret may stand: exactly one of Header, Query and Cookie
// is set.
type KeySource struct {
	Header string // the name of a header, in any case
	Scheme string // with Header: the authentication scheme before the secret, such as Bearer
	Query  string // the name of a query parameter
	Cookie string // the name of a cookie
}

// Validate reports what is wrong with the source and what to write instead.
func (k KeySource) Validate() error {
	places := 0
	for _, name := range []string{k.Header, k.Query, k.Cookie} {
		if name != "" {
			places++
		}
	}
	switch {
	case places != 1:
		return errors.New("write exactly one of header, query and cookie, such as header: x-api-key")
	case k.Scheme != "" && k.Header == "":
		return errors.New("scheme: only a header has one: leave it out, or write header: authorization beside it")
	case k.Scheme != "" && !isToken(k.Scheme):
		return fmt.Errorf("scheme: %q is not the name of an authentication scheme: write one such as Bearer", k.Scheme)
	case strings.EqualFold(k.Header, "cookie"):
		return errors.New("header: cookie holds many values: write cookie: and the name of the cookie")
	case k.Header != "":
		return validateHeaderName(k.Header)
	case k.Query != "" && !isPlainQueryName(k.Query):
		return fmt.Errorf("query: %q is not a plain name: write printable ASCII without & = + %% # and spaces, such as api_key", k.Query)
	case k.Cookie != "" && !isToken(k.Cookie):
		return fmt.Errorf("cookie: %q is not the name of a cookie: write one such as api_key", k.Cookie)
	}
	return nil
}

func isPlainQueryName(name string) bool {
	return !slices.ContainsFunc([]byte(name), func(c byte) bool {
		return c <= ' ' || c > '~' || strings.IndexByte("&=+%#", c) >= 0
	})
}

// secret returns the secret of the first source that is present, and the source's index; -1
// where none is.
func (s *Server) secret(a *attributes) (string, int) {
	for i := range s.sources {
		if secret := s.sources[i].find(a); secret != "" {
			return secret, i
		}
	}
	return "", -1
}

// find returns what stands in the source; empty where it is absent. What stands there more
// than once comes joined by commas, so that it is nobody's secret.
func (k *KeySource) find(a *attributes) string {
	switch {
	case k.Query != "":
		return queryValue(a.path, k.Query)
	case k.Cookie != "":
		header, _ := a.header("cookie")
		return cookieValue(header, k.Cookie)
	case k.Scheme != "":
		header, _ := a.header(k.Header)
		return credentials(header, k.Scheme)
	}
	header, _ := a.header(k.Header)
	return header
}

// hide takes every secret out of what goes upstream: the one that was used, unless it is to
// be forwarded, and the others, which nobody checked. A header source is removed unseen too:
// Envoy may have been told not to show it.
func (s *Server) hide(a *attributes, used int, r *reply) {
	var forwarded KeySource
	if s.forwardKey && used >= 0 {
		forwarded = s.sources[used]
	}
	var cookies []string
	for i := range s.sources {
		k := &s.sources[i]
		switch {
		case *k == forwarded:
		case k.Query != "":
			r.dropQuery = appendQueryNames(r.dropQuery, a.path, k.Query)
		case k.Cookie != "":
			cookies = append(cookies, k.Cookie)
		case k.Header == forwarded.Header:
		case k.Scheme == "":
			r.removeHeader(k.Header)
		default:
			if header, _ := a.header(k.Header); hasScheme(header, k.Scheme) {
				r.removeHeader(k.Header)
			}
		}
	}
	if len(cookies) > 0 {
		r.hideCookies(a, cookies)
	}
}

// hideCookies takes the cookies of these names out of the cookie header.
func (r *reply) hideCookies(a *attributes, names []string) {
	header, _ := a.header("cookie")
	switch rest, found := withoutCookies(header, names); {
	case !found:
	case rest == "":
		r.removeHeader("cookie")
	default:
		r.headers = append(r.headers, field{"cookie", rest})
	}
}

// credentials returns what follows the scheme, which is in lower case, in a header such as
// authorization (RFC 9110 section 11.4); empty where the header has another scheme. Where the
// scheme is in a list, the whole list is returned: which of it counts is anyone's guess, and
// its commas make it nobody's secret.
func credentials(header, scheme string) string {
	switch {
	case !hasScheme(header, scheme):
		return ""
	case strings.Contains(header, ","):
		return header
	}
	rest := strings.TrimLeft(header, " \t")[len(scheme):]
	secret := strings.TrimLeft(rest, " ")
	if len(secret) == len(rest) {
		return "" // what follows the scheme is not a space
	}
	return secret
}

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

// challenge returns the value of www-authenticate (RFC 9110 section 11.6.1) that names each
// way in which a secret may be sent.
func challenge(sources []KeySource) string {
	var schemes []string
	for _, k := range sources {
		scheme := k.Scheme
		if scheme == "" {
			scheme = "ApiKey"
		}
		if !slices.ContainsFunc(schemes, func(s string) bool { return strings.EqualFold(s, scheme) }) {
			schemes = append(schemes, scheme)
		}
	}
	return strings.Join(schemes, ` realm="extauthz", `) + ` realm="extauthz"`
}
