package strictyaml

import (
	"strconv"
	"time"

	"gopkg.in/yaml.v3"
)

// String returns the text of a scalar. A number or a boolean without quotes is not text.
func (d *Decoder) String(n *yaml.Node) string {
	n = Resolve(n)
	if kind := kindOf(n); kind == "a number" || kind == "true or false" {
		d.Errorf(n, "%s is %s, not text: write it in quotes, %q", n.Value, kind, n.Value)
		return ""
	}
	return d.Plain(n)
}

// Plain returns the text of any scalar, of whatever type it is in YAML, such as a hash that consists
// of digits, or an address.
func (d *Decoder) Plain(n *yaml.Node) string {
	n = Resolve(n)
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || isForeign(n) {
		d.unexpected(n, kindOf(n), "text", "write a single value")
		return ""
	}
	return d.expand(n)
}

// Bool returns true or false.
func (d *Decoder) Bool(n *yaml.Node) bool {
	n = Resolve(n)
	switch d.scalar(n) {
	case "true", "True", "TRUE":
		return true
	case "false", "False", "FALSE":
	default:
		d.unexpected(n, describe(n), "true or false", "write one of them")
	}
	return false
}

// Int returns a whole number.
func (d *Decoder) Int(n *yaml.Node) int64 {
	n = Resolve(n)
	i, err := strconv.ParseInt(d.scalar(n), 10, 64)
	if err != nil {
		d.unexpected(n, describe(n), "a whole number", "write one such as 100")
		return 0
	}
	return i
}

// Duration returns a duration written as 200ms, 30s, 5m or 24h.
func (d *Decoder) Duration(n *yaml.Node) time.Duration {
	n = Resolve(n)
	v, err := time.ParseDuration(d.scalar(n))
	if err != nil {
		d.unexpected(n, describe(n), "a duration", "write one such as 200ms, 30s, 5m or 24h")
	}
	return v
}

// Time returns a time written in the format of RFC 3339.
func (d *Decoder) Time(n *yaml.Node) time.Time {
	n = Resolve(n)
	text := d.scalar(n)
	t, err := time.Parse(time.RFC3339, text)
	if err == nil {
		return t
	}
	advice := "write it in the format of RFC 3339, such as 2027-01-31T00:00:00Z"
	for _, layout := range []string{time.DateOnly, time.DateTime, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			advice = "write it with its time and zone, as in " + t.Format(time.RFC3339)
		}
	}
	d.unexpected(n, describe(n), "a time", advice)
	return time.Time{}
}

// unexpected adds an error for a value of the wrong kind.
func (d *Decoder) unexpected(n *yaml.Node, found, want, advice string) {
	switch {
	case isForeign(n):
		advice += ", without the tag"
	case n.Tag == "!!null":
		advice += ", or omit it"
	}
	d.Errorf(n, "%s where %s is expected: %s", found, want, advice)
}

// scalar returns the text of a scalar. For anything else it returns "", which is not valid for any
// type.
func (d *Decoder) scalar(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || isForeign(n) {
		return ""
	}
	return d.expand(n)
}

func (d *Decoder) expand(n *yaml.Node) string {
	if d.Expand == nil {
		return n.Value
	}
	v, err := d.Expand(n.Value)
	if err != nil {
		d.Errorf(n, "%v", err)
		d.unexpanded = n
	}
	return v
}

// Resolve returns the node that an alias refers to, or n itself. An alias never refers to another
// alias, but a list or a mapping may contain an alias to itself.
func Resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// isForeign reports whether n has a tag whose values are not plain text: !!binary, or one that is not
// of YAML's core schema.
func isForeign(n *yaml.Node) bool {
	switch n.Tag {
	case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!merge", "!!map", "!!seq":
		return false
	}
	return true
}

func describe(n *yaml.Node) string {
	if kind := kindOf(n); n.Kind != yaml.ScalarNode || kind == "nothing" || isForeign(n) {
		return kind
	}
	return strconv.Quote(n.Value)
}

func kindOf(n *yaml.Node) string {
	if n.Kind == yaml.MappingNode {
		return "a mapping"
	}
	if n.Kind == yaml.SequenceNode {
		return "a list"
	}
	switch n.Tag {
	case "!!null":
		return "nothing"
	case "!!bool":
		return "true or false"
	case "!!int", "!!float":
		return "a number"
	}
	if isForeign(n) {
		return "a value tagged " + n.Tag
	}
	return "text"
}
