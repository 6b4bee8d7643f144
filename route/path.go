package route

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// ErrAmbiguous says that servers disagree on what a request's host or path means, so that no
// rule can be chosen by it. The errors that are it say what the trouble is, without repeating
// what the caller sent.
var ErrAmbiguous = errors.New("ambiguous request")

// What a byte of a path is.
const (
	plain     = iota // stands for itself, and means the same when it is escaped
	dot              // plain, but may make a dot segment
	slash            // parts segments
	escape           // %
	other            // stands for itself, and is written as an escape
	high             // part of a UTF-8 sequence, and is written as an escape
	forbidden        // servers disagree on it, or it cannot be in a path
)

// class holds what each byte is. The plain ones are the pchar of RFC 3986 section 3.3 without
// ';', which some servers take for the end of the segment.
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

// NormalizePath returns the one form in which paths are compared, of a path that may be
// followed by its query. Escapes of characters that may stand in a path unescaped are decoded
// (RFC 3986 section 6.2.2.2 says so of the unreserved ones; servers treat the others alike
// too), what may not is escaped in capitals, dot segments are removed (section 5.2.4), and
// repeated slashes count as one.
//
// A path that servers read in different ways is [ErrAmbiguous]: an escaped slash, or an
// escaped dot in a dot segment; a backslash or a semicolon, also escaped; control characters;
// an escape that is not one, or that is one of an escape; bytes that are not UTF-8; '#'; ".."
// after an empty segment; and what does not begin with a slash (such as the absolute form,
// "*", or CONNECT's, which has no path).
//
// It takes time in proportion to the path's length, and allocates only where the result is
// another text.
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
		size, err := n.take(path[i:])
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

// isNormal reports whether the path is in its normal form already; it may say no of some that
// are.
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
	out     []byte // the normal form of what was read
	decoded []byte // all that is not ASCII, decoded
	start   int    // of the segment under way in out, after its slash
	escaped bool   // a dot of the segment under way was escaped
	empty   bool   // an empty segment was read
}

// take reads one character, or one escape, and returns how many bytes that was.
func (n *normalizer) take(rest string) (int, error) {
	c, size, escaped := rest[0], 1, false
	if c == '%' {
		if len(rest) < 3 || !isHex(rest[1]) || !isHex(rest[2]) {
			return 0, ambiguous("a percent sign that begins no escape")
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
		// Names such as C%23 are common, and servers agree on an escaped # or ?, or space.
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
		n.decoded = append(n.decoded, ' ') // so that sequences do not run together
	}
	return size, nil
}

func (n *normalizer) escape(c byte) {
	const digits = "0123456789ABCDEF"
	n.out = append(n.out, '%', digits[c>>4], digits[c&15])
}

// endSegment removes a dot segment, and what it stands for, and lets the next segment begin.
func (n *normalizer) endSegment(last bool) error {
	segment := string(n.out[n.start:])
	switch {
	case (segment == "." || segment == "..") && n.escaped:
		return ambiguous("a dot segment that is escaped")
	case segment == "." || segment == "":
		n.empty = n.empty || segment == "" && !last
		n.out = n.out[:n.start]
	case segment == "..":
		// Whether ".." removes the empty segment or the one before it depends on which of
		// the two steps a server takes first.
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

// hasNestedEscape reports whether decoding the path twice gives something else than decoding
// it once, as in %252e.
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

// An ambiguity is an ErrAmbiguous with what the trouble is.
type ambiguity string

func ambiguous(what string) error { return ambiguity(what) }

func (a ambiguity) Error() string {
	return "the request has " + string(a) + ": servers disagree on what that means"
}

func (a ambiguity) Is(target error) bool { return target == ErrAmbiguous }
