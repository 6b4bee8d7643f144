package check

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Attributes are what a front end knows of one HTTP request. All of it but ID, Peer and Extensions
// is what the caller chose to send. Every string must be valid UTF-8. The zero value is a
// request without anything.
type Attributes struct {
	ID         string // chosen by the proxy at random, the same when it asks again; empty where it is not known
	Peer       string // the IP address of the connection's other end; empty where it has none
	Method     string
	Path       string // with its query, as it was sent; empty for CONNECT
	Host       string
	Scheme     string
	Headers    []Field // in any order, except that fields of one name keep theirs
	Extensions []Field // what the proxy's route says, such as permissions; no name twice

	// PathCleaned says that a "!" in Path may stand for a byte that was not UTF-8, which goes to
	// the upstream as it was.
	PathCleaned bool
}

// A Field is a header, or whatever else has a name and a value.
type Field struct{ Name, Value string }

// Reset empties a, and keeps the memory of its slices unless it is large.
func (a *Attributes) Reset() {
	*a = Attributes{Headers: Emptied(a.Headers), Extensions: Emptied(a.Extensions)}
}

// maxKept is for how many elements a slice keeps its memory.
const maxKept = 1024

// Emptied returns the list without its elements, and without its memory if that is large.
func Emptied(list []Field) []Field {
	if cap(list) > maxKept {
		return nil
	}
	clear(list)
	return list[:0]
}

// Header returns the value of the header with this name, in lower case, and whether there is
// one. A header that came more than once is joined by commas, as Envoy does it, so that a
// repeated secret belongs to nobody.
func (a *Attributes) Header(name string) (string, bool) {
	for i := range a.Headers {
		if !equalFold(a.Headers[i].Name, name) {
			continue
		}
		value := a.Headers[i].Value
		if !slices.ContainsFunc(a.Headers[i+1:], func(f Field) bool { return equalFold(f.Name, name) }) {
			return value, true
		}
		return a.joined(i, name), true
	}
	return "", false
}

func (a *Attributes) joined(first int, name string) string {
	var b strings.Builder
	b.WriteString(a.Headers[first].Value)
	for _, f := range a.Headers[first+1:] {
		if equalFold(f.Name, name) {
			b.WriteByte(',')
			b.WriteString(f.Value)
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
