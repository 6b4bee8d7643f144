package route

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// ErrAmbiguous means that servers disagree on the meaning of a request's host or path, so that
// no rule can be chosen by it. Errors that match it name the cause, without repeating what the
// caller sent.
var ErrAmbiguous = errors.New("ambiguous request")

// The classes of bytes in a path.
const (
	plain     = iota // literal; the same when escaped
	dot              // plain, but may be part of a dot segment
	slash            // separates segments
	escape           // %
	other            // literal; escaped in normal form
	high             // part of a UTF-8 sequence; escaped in normal form
	forbidden        // ambiguous, or not allowed in a path
)

// class is the class of each byte. The plain ones are pchar of RFC 3986 section 3.3 without ';',
// at which some servers end the segment.
var class = func() (t [256]byte) {
	for c := range t {
		switch {
		case c >= 0x80:
			t[c] = high
		case c <= ' ' || c == 0x7f || strings.IndexByte(`\;#?`, byte(c)) >= 0:
			t[c] = forbidden
		case c == '.':
			t[c] = dot
		case c == '/':
			t[c] = slash
		case c == '%':
			t[c] = escape
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_~!$&'()*+,=:@", byte(c)) >= 0:
			t[c] = plain
		default:
			t[c] = other
		}
	}
	return t
}()

// NormalizePath returns the normal form of a path, in which paths are compared; the path may be
// followed by a query. Characters that need no escape are unescaped (RFC 3986 section 6.2.2.2
// for unreserved characters; servers treat the others alike), all others are escaped with
// upper-case digits, dot segments are removed (section 5.2.4), and slashes are merged.
//
// A path whose meaning servers disagree on is [ErrAmbiguous]: one with an escaped slash, or an
// escaped dot in a dot segment; a backslash or semicolon, escaped or not; a control character;
// an invalid or nested escape; bytes that are not UTF-8; '#'; ".." after an empty segment; and
// one that does not begin with a slash (such as the absolute form, "*", or CONNECT's).
//
// NormalizePath takes linear time, and allocates only if the path is not in normal form.
func NormalizePath(path string) (string, error) {
	if i := strings.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	if path == "" || path[0] != '/' {
		return "", ambiguous("a path that does not begin with a slash")
	}
	if isNormal(path) {
		return path, nil
	}
	n := normalizer{out: make([]byte, 0, len(path)+16)}
	for i := 0; i < len(path); {
		size, err := n.next(path[i:])
		if err != nil {
			return "", err
		}
		i += size
	}
	if err := n.endSegment(true); err != nil {
		return "", err
	}
	if !utf8.Valid(n.decoded) {
		return "", ambiguous("bytes that are not UTF-8")
	}
	if hasNestedEscape(n.out) {
		return "", ambiguous("an escape of an escape")
	}
	return string(n.out), nil
}

// isNormal reports whether the path is already in normal form. It may return false for some
// that are.
func isNormal(path string) bool {
	before := byte(plain)
	for i := range len(path) {
		c := class[path[i]]
		if c > slash || before == slash && (c == slash || c == dot) {
			return false
		}
		before = c
	}
	return true
}

type normalizer struct {
	out     []byte // the normal form so far
	decoded []byte // the decoded non-ASCII bytes so far
	start   int    // the start of the current segment in out, after its slash
	escaped bool   // a dot in the current segment was escaped
	empty   bool   // there was an empty segment
}

// next normalizes one character or escape, and returns its length in bytes.
func (n *normalizer) next(rest string) (int, error) {
	c, size, escaped := rest[0], 1, false
	if c == '%' {
		if len(rest) < 3 || !isHex(rest[1]) || !isHex(rest[2]) {
			return 0, ambiguous("a percent sign without two hexadecimal digits")
		}
		c, size, escaped = unhex(rest[1])<<4|unhex(rest[2]), 3, true
	}
	switch class[c] {
	case slash:
		if escaped {
			return 0, ambiguous("an escaped slash")
		}
		if len(n.out) > 0 {
			if err := n.endSegment(false); err != nil {
				return 0, err
			}
		} else {
			n.out = append(n.out, '/')
			n.start = 1
		}
	case forbidden:
		// Names such as C%23 are common, and servers agree on escaped #, ? and space.
		if !escaped || c != '#' && c != '?' && c != ' ' {
			return 0, ambiguous("a " + describe(c))
		}
		n.escape(c)
	case high:
		n.decoded = append(n.decoded, c)
		n.escape(c)
	case escape, other:
		n.escape(c)
	default:
		n.escaped = n.escaped || c == '.' && escaped
		n.out = append(n.out, c)
	}
	if class[c] != high && len(n.decoded) > 0 && n.decoded[len(n.decoded)-1] >= utf8.RuneSelf {
		n.decoded = append(n.decoded, ' ') // keeps sequences apart
	}
	return size, nil
}

func (n *normalizer) escape(c byte) {
	const digits = "0123456789ABCDEF"
	n.out = append(n.out, '%', digits[c>>4], digits[c&15])
}

// endSegment resolves a dot segment and starts the next segment.
func (n *normalizer) endSegment(last bool) error {
	segment := string(n.out[n.start:])
	switch {
	case (segment == "." || segment == "..") && n.escaped:
		return ambiguous("a dot segment that is escaped")
	case segment == "." || segment == "":
		n.empty = n.empty || segment == "" && !last
		n.out = n.out[:n.start]
	case segment == "..":
		// Whether ".." removes the empty segment or the one before it depends on whether a
		// server merges slashes first.
		if n.empty {
			return ambiguous("\"..\" after an empty segment")
		}
		n.out = n.out[:max(n.start-1, 0)]
		for len(n.out) > 1 && n.out[len(n.out)-1] != '/' {
			n.out = n.out[:len(n.out)-1]
		}
		if len(n.out) == 0 {
			n.out = append(n.out, '/')
		}
		n.start = len(n.out)
	case !last:
		n.out = append(n.out, '/')
		n.start = len(n.out)
	}
	n.escaped = false
	return nil
}

// hasNestedEscape reports whether decoding the path twice differs from decoding it once, as for
// %252e.
func hasNestedEscape(path []byte) bool {
	for i := 0; i+5 <= len(path); i++ {
		if path[i] == '%' && path[i+1] == '2' && path[i+2] == '5' && isHex(path[i+3]) && isHex(path[i+4]) {
			return true
		}
	}
	return false
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// unhex returns the value of a hexadecimal digit.
func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

func describe(c byte) string {
	switch c {
	case '\\':
		return "backslash"
	case ';':
		return "semicolon"
	case '#':
		return "fragment"
	case ' ':
		return "space"
	}
	return "control character"
}

// An ambiguity is an ErrAmbiguous with its cause.
type ambiguity string

func ambiguous(what string) error { return ambiguity(what) }

func (a ambiguity) Error() string {
	return "the request has " + string(a) + ": servers disagree on its meaning"
}

func (a ambiguity) Is(target error) bool { return target == ErrAmbiguous }
