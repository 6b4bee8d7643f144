package yamlfile

import (
	"encoding/json"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// readMeta keeps any YAML that JSON can say, as compact JSON.
func (r *reader) readMeta(n *yaml.Node) {
	r.record.key.Meta = once(r, "meta", n, func() json.RawMessage {
		w := metaWriter{reader: r}
		errs := len(r.d.Errors)
		if w.write(n); len(r.d.Errors) > errs || string(w.json) == "null" {
			return nil
		}
		return slices.Clip(w.json)
	})
}

// A metaWriter writes YAML nodes as JSON.
type metaWriter struct {
	*reader
	json  []byte
	open  []*yaml.Node // the nodes that aliases led into
	limit int          // how long json may become while in an alias
}

// write reports whether all of n was written; it stops at the first error.
func (w *metaWriter) write(n *yaml.Node) bool {
	if len(w.open) > 0 && len(w.json) > w.limit {
		w.d.Errorf(w.open[0], "meta: the aliases in this file stand for far more text than the file has: write the values out")
		return false
	}
	switch n.Kind {
	case yaml.AliasNode:
		return w.alias(n)
	case yaml.MappingNode:
		return w.mapping(n)
	case yaml.SequenceNode:
		w.json = append(w.json, '[')
		for i, item := range n.Content {
			if i > 0 {
				w.json = append(w.json, ',')
			}
			if !w.write(item) {
				return false
			}
		}
		w.json = append(w.json, ']')
		return true
	default:
		return w.scalar(n)
	}
}

func (w *metaWriter) alias(n *yaml.Node) bool {
	if slices.Contains(w.open, n.Alias) {
		w.d.Errorf(n, "meta: *%s stands within what it stands for: write the value out", n.Value)
		return false
	}
	if len(w.open) == 0 {
		start := len(w.json)
		w.limit = start + w.aliasBudget
		defer func() { w.aliasBudget -= len(w.json) - start }()
	}
	w.open = append(w.open, n.Alias)
	defer func() { w.open = w.open[:len(w.open)-1] }()
	return w.write(n.Alias)
}

func (w *metaWriter) mapping(n *yaml.Node) bool {
	w.json = append(w.json, '{')
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i]
		switch {
		case name.Tag == "!!merge":
			w.d.Errorf(name, "meta: << takes fields over from elsewhere, which is not read: write the fields out")
			return false
		case name.Kind != yaml.ScalarNode || name.Tag != "!!str" && name.Tag != "!!timestamp":
			w.d.Errorf(name, "meta: a field's name that is not text, as JSON wants it: write it in quotes")
			return false
		case seen[name.Value]:
			w.d.Errorf(name, "meta: field %q stands twice: keep one of them", name.Value)
			return false
		}
		seen[name.Value] = true
		if i > 0 {
			w.json = append(w.json, ',')
		}
		w.json = append(appendQuoted(w.json, name.Value), ':')
		if !w.write(n.Content[i+1]) {
			return false
		}
	}
	w.json = append(w.json, '}')
	return true
}

func (w *metaWriter) scalar(n *yaml.Node) bool {
	switch n.Tag {
	case "!!str", "!!timestamp", "!!merge":
		w.json = appendQuoted(w.json, n.Value)
	case "!!null":
		w.json = append(w.json, "null"...)
	case "!!bool", "!!int", "!!float":
		literal, ok := jsonLiteral(n)
		if !ok {
			w.d.Errorf(n, "meta: %q is what JSON cannot say: write it in quotes", n.Value)
			return false
		}
		w.json = append(w.json, literal...)
	default:
		w.d.Errorf(n, "meta: a value tagged %s, which JSON cannot say: write plain text", n.Tag)
		return false
	}
	return true
}

// jsonLiteral keeps a number as it is written, unless only YAML would read it so.
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
