package yamlfile

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// MarshalKey returns the key as an entry of the list in a key file, indented by two spaces, without
// the fields that have their default. The error is that of [keystore.Key.Validate].
func MarshalKey(k *keystore.Key) ([]byte, error) {
	if err := validate(k); err != nil {
		return nil, err
	}
	return []byte(formatKey(k, "  ")), nil
}

func validate(keys ...*keystore.Key) error {
	for _, k := range keys {
		if err := k.Validate(); err != nil {
			return fmt.Errorf("key %q: %w", k.ID, err)
		}
		if k.Broken != nil {
			return fmt.Errorf("key %q was not read whole, and what is missing would be lost: %w", k.ID, k.Broken)
		}
	}
	return nil
}

// formatKey returns the lines of a key as an entry of a list at this indentation.
func formatKey(k *keystore.Key, indent string) string {
	var b strings.Builder
	start := indent + "- "
	for _, f := range fields {
		if text := f.line(k, indent+"  "); text != "" {
			b.WriteString(start + text + "\n")
			start = indent + "  "
		}
	}
	return b.String()
}

// line returns the field with its name, or "" if the key does not have it. A long whitelist has
// several lines, the further ones indented by more than indent.
func (f field) line(k *keystore.Key, indent string) string {
	value := f.format(k)
	if value == "" {
		return ""
	}
	text := f.name + ": " + value
	if f.name == "ip_whitelist" && len(value) > 100 {
		text = f.name + ":"
		for _, p := range k.Whitelist.Prefixes() {
			text += "\n" + indent + "  - " + formatEntry(p)
		}
	}
	return text
}

// sameKey reports whether both keys are written in the same way.
func sameKey(a, b *keystore.Key) bool {
	return a == b || !slices.ContainsFunc(fields, func(f field) bool { return f.format(a) != f.format(b) })
}

// formatHash returns hexadecimal digits, in quotes if YAML would read a number.
func formatHash(h keystore.Hash) string {
	s := h.String()
	if strings.ContainsAny(s, "abcdf") {
		return s
	}
	return strconv.Quote(s)
}

func formatEntry(p netip.Prefix) string {
	return strictyaml.Quote(keystore.FormatWhitelistEntry(p))
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func formatRatelimit(l keystore.Ratelimit) string {
	onDemand := ""
	if l.OnDemand {
		onDemand = ", auto_apply: false"
	}
	return fmt.Sprintf("{name: %s, limit: %d, duration: %s%s}", strictyaml.Quote(l.Name), l.Limit, formatDuration(l.Duration), onDemand)
}

// formatDuration returns d without zeros at its end: 1h0m0s is 1h.
func formatDuration(d time.Duration) string { return zerosAtEnd.Replace(d.String()) }

var zerosAtEnd = strings.NewReplacer("h0m0s", "h", "m0s", "m")

func formatMeta(meta json.RawMessage) string {
	return strings.TrimPrefix(strictyaml.FormatJSON(meta), "null") // which is as good as nothing
}

// list returns values in brackets, or "" if there are none.
func list[T any](values []T, format func(T) string) string {
	if len(values) == 0 {
		return ""
	}
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = format(v)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}
