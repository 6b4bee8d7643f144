package route

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
)

// A folded path is a normal path without its case, in two forms. Case-blind servers agree on
// what is equal in the narrow form: letters are folded one by one, and none outside ASCII into
// ASCII. Only some take for equal what is so in the wide form alone, such as "ß" and "SS", or
// "K" (the Kelvin sign) and "k".
type folded struct{ narrow, wide string }

// fold folds a normal path. It allocates nothing where the path is lower-case ASCII.
func fold(path string) folded {
	path = unescapeHigh(path)
	if isASCII(path) {
		path = strings.ToLower(path)
		return folded{path, path}
	}
	wide := strings.ToLower(strings.ToUpper(path))
	return folded{strings.Map(foldRune, path), cases.Fold().String(wide)}
}

// foldRune returns the first of the characters that are r but for its case; of a character
// outside ASCII, the first outside ASCII.
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

// unescapeHigh decodes the escapes of what is not ASCII in a normal path.
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

// indexHigh returns where the first escape of a byte above ASCII begins in a normal path.
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

// under reports whether the path is the prefix, or below it. Where servers that ignore case
// disagree on that, the error is [ErrAmbiguous].
func (path folded) under(prefix folded) (bool, error) {
	switch {
	case under(path.narrow, prefix.narrow):
		return true, nil
	case under(path.wide, prefix.wide):
		return false, ambiguous("a letter that only some servers take for one of a rule that ignores case")
	}
	return false, nil
}

// under reports whether the path is the prefix, or a segment of it ends where the prefix does.
func under(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}
