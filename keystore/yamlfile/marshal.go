package yamlfile

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"extauthz/keystore"
)

// MarshalKey returns the key as it stands in a key file, an item of the list of keys, indented
// by two spaces. Fields that say what is so without them are left out. The error is that of
// [keystore.Key.Validate].
func MarshalKey(k *keystore.Key) ([]byte, error) {
	if err := validate(k); err != nil {
		return nil, err
	}
	return []byte(formatItem(k, "  ")), nil
}

func validate(k *keystore.Key) error {
	if err := k.Validate(); err != nil {
		return fmt.Errorf("key %q: %w", k.ID, err)
	}
	if k.Broken != nil {
		return fmt.Errorf("key %q was not read whole, and what is missing would be lost: %w", k.ID, k.Broken)
	}
	return nil
}

// formatItem returns the key's lines as an item of a list at this indentation.
func formatItem(k *keystore.Key, indent string) string {
	var b strings.Builder
	lead := indent + "- "
	for _, name := range fieldNames {
		if text := formatField(k, name, indent+"  "); text != "" {
			b.WriteString(lead + text + "\n")
			lead = indent + "  "
		}
	}
	return b.String()
}

// fieldNames are the fields of a key in the order in which they are written.
var fieldNames = []string{
	"id", "name", "hash", "ip_whitelist", "enabled", "expires", "external_id", "permissions", "roles", "ratelimits", "meta",
}

// formatField returns one field, or "" where the key says nothing about it. The lines after
// the first are indented by more than indent.
func formatField(k *keystore.Key, name, indent string) string {
	value := formatValue(k, name)
	if value == "" {
		return ""
	}
	if name == "ip_whitelist" && len(value) > 100 {
		var b strings.Builder
		b.WriteString("ip_whitelist:")
		for _, p := range k.Whitelist.Prefixes() {
			b.WriteString("\n" + indent + "  - " + scalar(keystore.FormatWhitelistEntry(p)))
		}
		return b.String()
	}
	return name + ": " + value
}

func formatValue(k *keystore.Key, name string) string {
	switch name {
	case "id":
		return scalar(k.ID)
	case "name":
		return optional(k.Name)
	case "hash":
		return formatHash(k.Hash)
	case "ip_whitelist":
		if k.Whitelist.Restricted() {
			return list(k.Whitelist.Prefixes(), keystore.FormatWhitelistEntry)
		}
	case "enabled":
		if !k.Enabled {
			return "false"
		}
	case "expires":
		if !k.Expires.IsZero() {
			return k.Expires.UTC().Format(time.RFC3339Nano)
		}
	case "external_id":
		return optional(k.ExternalID)
	case "permissions":
		return list(k.Permissions, func(s string) string { return s })
	case "roles":
		return list(k.Roles, func(s string) string { return s })
	case "ratelimits":
		return formatRatelimits(k.Ratelimits)
	case "meta":
		return formatMeta(k.Meta)
	}
	return ""
}

func optional(s string) string {
	if s == "" {
		return ""
	}
	return scalar(s)
}

// formatHash returns hexadecimal digits, in quotes where YAML would read a number.
func formatHash(h keystore.Hash) string {
	s := h.String()
	if strings.ContainsAny(s, "abcdf") {
		return s
	}
	return strconv.Quote(s)
}

func list[T any](items []T, text func(T) string) string {
	if len(items) == 0 {
		return ""
	}
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = scalar(text(item))
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

func formatRatelimits(limits []keystore.Ratelimit) string {
	if len(limits) == 0 {
		return ""
	}
	texts := make([]string, len(limits))
	for i, l := range limits {
		onDemand := ""
		if l.OnDemand {
			onDemand = ", auto_apply: false"
		}
		texts[i] = fmt.Sprintf("{name: %s, limit: %d, duration: %s%s}", scalar(l.Name), l.Limit, formatDuration(l.Duration), onDemand)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// formatDuration returns d without the zeros that [time.Duration.String] ends it with.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// formatMeta returns JSON as YAML in one line: its strings without quotes where they need
// none, and otherwise with no escapes that JSON alone knows.
func formatMeta(meta json.RawMessage) string {
	var b strings.Builder
	for i := 0; i < len(meta); i++ {
		switch c := meta[i]; c {
		case ' ', '\t', '\r', '\n':
		case ',', ':':
			b.WriteByte(c)
			b.WriteByte(' ')
		case '"':
			end := i + 1
			for ; meta[end] != '"'; end++ {
				if meta[end] == '\\' {
					end++
				}
			}
			var s string
			_ = json.Unmarshal(meta[i:end+1], &s) // the whole is valid, so is the part
			b.WriteString(scalar(s))
			i = end
		default:
			b.WriteByte(c)
		}
	}
	if b.String() == "null" {
		return ""
	}
	return b.String()
}

var (
	// Text that YAML reads as text, and that needs no quotes in a list either.
	plain = regexp.MustCompile(`^(?:[A-Za-z](?:[\w ./@()+-]*[\w./)+-])?|\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2})?)$`)

	// Words that some readers of YAML take for something else.
	reserved = []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
)

// scalar returns text as YAML, in quotes unless it is plain.
func scalar(s string) string {
	if plain.MatchString(s) && !slices.Contains(reserved, strings.ToLower(s)) {
		return s
	}
	return string(appendQuoted(nil, s))
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
