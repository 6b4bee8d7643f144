package strictyaml

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

var (
	// Text that YAML reads as text, without quotes also within brackets.
	plain = regexp.MustCompile(`^(?:[A-Za-z](?:[\w ./@()+-]*[\w./)+-])?|\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2})?)$`)

	// Words that some parsers of YAML do not read as text.
	reserved = []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
)

// Quote returns text as a YAML scalar, in quotes unless it needs none.
func Quote(s string) string {
	if plain.MatchString(s) && !slices.Contains(reserved, strings.ToLower(s)) {
		return s
	}
	return string(appendQuoted(nil, s))
}

// FormatJSON returns JSON as YAML on one line, with quotes only around strings that need them, and
// without escapes that only JSON has.
func FormatJSON(j json.RawMessage) string {
	var b strings.Builder
	for i := 0; i < len(j); i++ {
		switch c := j[i]; c {
		case ' ', '\t', '\r', '\n':
		case ',', ':':
			b.WriteByte(c)
			b.WriteByte(' ')
		case '"':
			end := i + 1
			for ; j[end] != '"'; end++ {
				if j[end] == '\\' {
					end++
				}
			}
			var s string
			_ = json.Unmarshal(j[i:end+1], &s) // the whole is valid, so is the part
			b.WriteString(Quote(s))
			i = end
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// appendQuoted appends s in double quotes, as both JSON (RFC 8259 section 7) and YAML (1.2.2
// section 5.7) read it.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c < ' ' || c >= 0x7f && c < 0xa0 || c == 0x2028 || c == 0x2029 || c == 0xfeff || c == 0xfffe || c == 0xffff:
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = utf8.AppendRune(b, c)
		}
	}
	return append(b, '"')
}
