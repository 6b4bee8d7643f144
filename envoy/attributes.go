package envoy

import (
	"slices"
	"strings"
	"unicode/utf8"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// attributes is what a check request says that matters here, however it was encoded. All of
// it but peer is what the caller chose to send. The zero value is a request without anything.
type attributes struct {
	peer       string // the address of Envoy's TCP peer; empty where the peer has none
	method     string
	path       string // with its query, as it was sent; empty for CONNECT
	host       string
	scheme     string
	headers    []field // in no order that means anything, except among those of one name
	extensions []field // the route's context extensions
}

// A field is a header, or whatever else has a name and a value.
type field struct{ name, value string }

func (a *attributes) reset() {
	clear(a.headers)
	clear(a.extensions)
	*a = attributes{headers: a.headers[:0], extensions: a.extensions[:0]}
}

// read fills a, which is empty, from the generated type. Everything in it may be missing.
func (a *attributes) read(req *authv3.CheckRequest) {
	context := req.GetAttributes()
	http := context.GetRequest().GetHttp()
	a.peer = context.GetSource().GetAddress().GetSocketAddress().GetAddress()
	a.method, a.path, a.host, a.scheme = http.GetMethod(), http.GetPath(), http.GetHost(), http.GetScheme()
	for name, value := range context.GetContextExtensions() {
		a.extensions = append(a.extensions, field{name, value})
	}
	for name, value := range http.GetHeaders() {
		a.headers = append(a.headers, field{name, value})
	}
	a.orderHeaders()
	for _, h := range http.GetHeaderMap().GetHeaders() {
		value := h.GetValue()
		if raw := h.GetRawValue(); len(raw) > 0 {
			value = sanitizeUTF8(string(raw))
		}
		a.headers = append(a.headers, field{h.GetKey(), value})
	}
}

// orderHeaders gives headers that came in a map an order of their own where it matters: where
// two names may be the same but for their case. Envoy sends none such.
func (a *attributes) orderHeaders() {
	if slices.ContainsFunc(a.headers, func(f field) bool { return hasUpper(f.name) }) {
		slices.SortFunc(a.headers, func(f, g field) int { return strings.Compare(f.name, g.name) })
	}
}

// header returns the value of the header with this name, in lower case, and whether there is
// one. A header that came more than once is joined by commas as Envoy does it in the headers
// map, so that both encodings decide alike. So is one that came in both encodings: a secret
// that does is then nobody's.
func (a *attributes) header(name string) (string, bool) {
	for i := range a.headers {
		if !equalFold(a.headers[i].name, name) {
			continue
		}
		value := a.headers[i].value
		if !slices.ContainsFunc(a.headers[i+1:], func(f field) bool { return equalFold(f.name, name) }) {
			return value, true
		}
		return a.joined(i, name), true
	}
	return "", false
}

func (a *attributes) joined(first int, name string) string {
	var b strings.Builder
	b.WriteString(a.headers[first].value)
	for _, f := range a.headers[first+1:] {
		if equalFold(f.name, name) {
			b.WriteByte(',')
			b.WriteString(f.value)
		}
	}
	return b.String()
}

// barePath returns a request's path without its query and fragment.
func barePath(path string) string {
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		return path[:i]
	}
	return path
}

// clip returns at most n bytes of s, and no part of a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// sanitizeUTF8 puts a "!" in the place of every byte that is not UTF-8, as Envoy does it in
// the headers map.
func sanitizeUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b = append(b, '!')
		} else {
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return string(b)
}

// equalFold reports whether s is the lower-case ASCII name, without regard to the case of
// ASCII letters. Other characters are never folded, as strings.EqualFold would.
func equalFold(s, name string) bool {
	if len(s) != len(name) {
		return false
	}
	for i := range len(s) {
		if lower(s[i]) != name[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

func hasUpper(s string) bool {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return true
		}
	}
	return false
}
