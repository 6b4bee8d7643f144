package strictyaml

import (
	"encoding/json"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// JSON returns the value of a field as compact JSON, or nil if it is null or has no form in JSON,
// which is an error. The text of aliases is subtracted from budget, in bytes; if there is more, it
// is an error. Error messages begin with the field's name.
func (d *Decoder) JSON(field string, n *yaml.Node, budget *int) json.RawMessage {
	w := jsonWriter{d: d, field: field + ": ", budget: budget}
	if !w.value(n) || string(w.json) == "null" {
		return nil
	}
	return slices.Clip(w.json)
}

type jsonWriter struct {
	d       *Decoder
	field   string
	json    []byte
	aliased []*yaml.Node // the nodes that aliases led into
	budget  *int
	limit   int // how long json may become while in an alias
}

func (w *jsonWriter) errorf(n *yaml.Node, format string, args ...any) bool {
	w.d.Errorf(n, w.field+format, args...)
	return false
}

// value reports whether all of n was written; it stops at the first error.
func (w *jsonWriter) value(n *yaml.Node) bool {
	if len(w.aliased) > 0 && len(w.json) > w.limit {
		return w.errorf(w.aliased[0], "the aliases in this file expand to far more text than the file has: write the values out")
	}
	switch n.Kind {
	case yaml.AliasNode:
		return w.alias(n)
	case yaml.MappingNode:
		return w.object(n)
	case yaml.SequenceNode:
		w.json = append(w.json, '[')
		for i, entry := range n.Content {
			if i > 0 {
				w.json = append(w.json, ',')
			}
			if !w.value(entry) {
				return false
			}
		}
		w.json = append(w.json, ']')
		return true
	default:
		return w.scalar(n)
	}
}

func (w *jsonWriter) alias(n *yaml.Node) bool {
	if slices.Contains(w.aliased, n.Alias) {
		return w.errorf(n, "*%s refers to a value that contains it: write the value out", n.Value)
	}
	if len(w.aliased) == 0 {
		start := len(w.json)
		w.limit = start + *w.budget
		defer func() { *w.budget -= len(w.json) - start }()
	}
	w.aliased = append(w.aliased, n.Alias)
	defer func() { w.aliased = w.aliased[:len(w.aliased)-1] }()
	return w.value(n.Alias)
}

func (w *jsonWriter) object(n *yaml.Node) bool {
	w.json = append(w.json, '{')
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i]
		switch {
		case name.Tag == "!!merge":
			return w.errorf(name, "%s", noMerge)
		case name.Kind != yaml.ScalarNode || name.Tag != "!!str" && name.Tag != "!!timestamp":
			return w.errorf(name, "a field's name that is not text: write it in quotes")
		case seen[name.Value]:
			return w.errorf(name, "field %q appears twice: keep one of them", name.Value)
		}
		seen[name.Value] = true
		if i > 0 {
			w.json = append(w.json, ',')
		}
		w.json = append(appendQuoted(w.json, name.Value), ':')
		if !w.value(n.Content[i+1]) {
			return false
		}
	}
	w.json = append(w.json, '}')
	return true
}

func (w *jsonWriter) scalar(n *yaml.Node) bool {
	switch n.Tag {
	case "!!str", "!!timestamp", "!!merge":
		w.json = appendQuoted(w.json, n.Value)
	case "!!null":
		w.json = append(w.json, "null"...)
	case "!!bool", "!!int", "!!float":
		literal, ok := jsonLiteral(n)
		if !ok {
			return w.errorf(n, "%q has no form in JSON: write it in quotes", n.Value)
		}
		w.json = append(w.json, literal...)
	default:
		return w.errorf(n, "a value tagged %s, which has no form in JSON: write plain text", n.Tag)
	}
	return true
}

// jsonLiteral returns a number or a boolean as it is written if JSON has that form too, and
// otherwise in JSON's form.
func jsonLiteral(n *yaml.Node) (string, bool) {
	if json.Valid([]byte(n.Value)) && strings.Trim(n.Value[:1], "-0123456789") == "" {
		return n.Value, true
	}
	var v any
	if n.Decode(&v) != nil {
		return "", false
	}
	switch v.(type) {
	case bool, int, int64, uint64, float64:
		b, err := json.Marshal(v)
		return string(b), err == nil // not for infinity and such
	}
	return "", false
}
