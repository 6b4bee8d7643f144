package route

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
)

// A folded path is a normal path without case, in two forms. Servers that ignore case agree that
// paths are equal if their narrow forms are: letters are folded one to one, and never from
// outside ASCII into ASCII. If only the wide forms are equal, as for "ß" and "SS" or for the
// Kelvin sign and "k", servers disagree.
type folded struct{ narrow, wide string }

// fold folds a normal path. It does not allocate if the path is lower-case ASCII.
func fold(path string) folded {
	path = unescapeHigh(path)
	if isASCII(path) {
		path = strings.ToLower(path)
		return folded{path, path}
	}
	wide := strings.ToLower(strings.ToUpper(path))
	return folded{strings.Map(foldRune, path), cases.Fold().String(wide)}
}

// foldRune returns the first of the characters that differ from r in case only, and are in ASCII
// if r is.
func foldRune(r rune) rune {
	first := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		if next < first && (next < utf8.RuneSelf) == (r < utf8.RuneSelf) {
			first = next
		}
	}
	if r < utf8.RuneSelf {
		return unicode.ToLower(r)
	}
	return first
}

// unescapeHigh decodes the escapes of non-ASCII bytes in a normal path.
func unescapeHigh(path string) string {
	i := indexHigh(path)
	if i < 0 {
		return path
	}
	var b strings.Builder
	b.Grow(len(path))
	for ; i >= 0; i = indexHigh(path) {
		b.WriteString(path[:i])
		b.WriteByte(unhex(path[i+1])<<4 | unhex(path[i+2]))
		path = path[i+3:]
	}
	b.WriteString(path)
	return b.String()
}

// indexHigh returns the index of the first escape of a non-ASCII byte in a normal path, or -1.
func indexHigh(path string) int {
	for i := range len(path) {
		if path[i] == '%' && path[i+1] >= '8' {
			return i
		}
	}
	return -1
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// under reports whether the path is the prefix, or below it. If servers that ignore case
// disagree, the error is [ErrAmbiguous].
func (path folded) under(prefix folded) (bool, error) {
	switch {
	case under(path.narrow, prefix.narrow):
		return true, nil
	case under(path.wide, prefix.wide):
		return false, ambiguous("a letter that only some servers fold to one in a rule that ignores case")
	}
	return false, nil
}

// under reports whether the path is the prefix, or below it by whole segments.
func under(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}
