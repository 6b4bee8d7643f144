package check

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Attributes describe one HTTP request, as a front end received it. The caller chooses everything
// except ID, Peer and Extensions. Every string must be valid UTF-8. The zero value is an empty
// request.
type Attributes struct {
	ID         string // the proxy's random id, the same for a retried check; empty if unknown
	Peer       string // the IP address of the connection's remote end; empty if it has none
	Method     string
	Path       string // with its query, as it was sent; empty for CONNECT
	Host       string
	Scheme     string
	Headers    []Field // in any order, except among fields of one name
	Extensions []Field // set on the proxy's route, such as permissions; each name once

	// PathCleaned reports that a "!" in Path may replace a byte that was not UTF-8, which the
	// upstream would receive unchanged.
	PathCleaned bool
}

// A Field is a name with a value, such as a header.
type Field struct{ Name, Value string }

// Reset makes a the zero value, and keeps the memory of its slices unless it is large.
func (a *Attributes) Reset() {
	*a = Attributes{Headers: Emptied(a.Headers), Extensions: Emptied(a.Extensions)}
}

// maxKept is the largest capacity for which a slice keeps its memory.
const maxKept = 1024

// Emptied returns an empty list that reuses the memory of list unless it is large.
func Emptied(list []Field) []Field {
	if cap(list) > maxKept {
		return nil
	}
	clear(list)
	return list[:0]
}

// Header returns the value of the header with this name, in lower case, and whether there is
// one. The values of a repeated header are joined by commas, as Envoy does it, so that a repeated
// secret matches no key.
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

// clip returns the first n bytes of s, or fewer, so that no character is split.
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

// CleanUTF8 replaces every byte that is not UTF-8 with "!", as Envoy does in the headers map.
func CleanUTF8(s string) string {
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
