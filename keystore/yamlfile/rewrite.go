package yamlfile

import (
	"net/netip"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// text returns what a file is to hold.
func (b *book) text(p *page) ([]byte, error) {
	var added strings.Builder
	indent := "  "
	if p.isBlock() {
		indent = strings.Repeat(" ", p.list.Column-1)
	}
	if p == b.fresh {
		for _, k := range b.added {
			added.WriteString(formatItem(k, indent))
		}
	}
	t := newText(p.data)
	switch {
	case added.Len() == 0 && !slices.ContainsFunc(p.items, b.isChanged):
		return p.data, nil
	case hasOddLines(p.data):
		return nil, strictyaml.Errors{{File: p.path, Message: "not all lines end in a line feed: save the file as UTF-8 with plain line ends to edit it here"}}
	case len(p.items) == 0:
		t.fill(p.list, added.String())
		return t.result(), nil
	case !p.isBlock():
		return nil, strictyaml.Errors{{
			File: p.path, Line: p.list.Line, Column: p.list.Column,
			Message: "the keys are written in brackets: write each as a `- ` item on lines of its own to edit them here",
		}}
	}
	spans := t.spans(p.list, p.lastLine(t))
	left := len(p.items)
	for i, it := range p.items {
		if !b.isChanged(it) {
			continue
		}
		if k := b.changes[it.key.ID]; k != nil {
			t.rewrite(spans[i], it, k, indent)
		} else {
			t.replace(spans[i].start, spans[i].end, "")
			left--
		}
	}
	if left == 0 && added.Len() == 0 {
		t.empty(p.listName)
	}
	t.insert(spans[len(spans)-1].end, added.String())
	return t.result(), nil
}

func (b *book) isChanged(it *item) bool {
	_, ok := b.changes[it.key.ID]
	return ok
}

// isBlock reports whether the keys are items on lines of their own.
func (p *page) isBlock() bool {
	return p.list.Kind == yaml.SequenceNode && p.list.Style&yaml.FlowStyle == 0
}

// lastLine returns the line before which the list of keys ends.
func (p *page) lastLine(t *text) int {
	for i := 0; i < len(p.root.Content); i += 2 {
		if line := p.root.Content[i].Line; line > p.list.Line {
			return line
		}
	}
	return len(t.lines)
}

// rewrite makes an item say what k does, by changing only the fields that differ if it can.
func (t *text) rewrite(s span, it *item, k *keystore.Key, indent string) {
	n := it.node
	known := len(t.edits)
	if n.Style&yaml.FlowStyle == 0 && n.Kind == yaml.MappingNode && t.rewriteFields(s, it, k) {
		return
	}
	t.edits = t.edits[:known]
	t.replace(s.start, s.end, t.comments(s, n, indent)+formatItem(k, indent))
}

// comments returns the comments within a span that stand on or in n, each on a line of its own.
func (t *text) comments(s span, n *yaml.Node, indent string) string {
	var lines strings.Builder
	for _, comment := range []string{n.HeadComment, n.LineComment, n.FootComment} {
		for line := range strings.SplitSeq(comment, "\n") {
			if line != "" && strings.Contains(string(t.data[s.start:s.end]), line) {
				lines.WriteString(indent + line + "\n")
			}
		}
	}
	for _, child := range n.Content {
		lines.WriteString(t.comments(s, child, indent))
	}
	return lines.String()
}

// rewriteFields reports whether it could change the fields alone.
func (t *text) rewriteFields(s span, it *item, k *keystore.Key) bool {
	n := it.node
	indent := strings.Repeat(" ", n.Column-1)
	var missing strings.Builder
	for _, name := range fieldNames {
		if formatValue(it.key, name) == formatValue(k, name) {
			continue
		}
		i := 0
		for i < len(n.Content) && n.Content[i].Value != name {
			i += 2
		}
		field := formatField(k, name, indent)
		if name == "enabled" && field == "" {
			field = "enabled: true"
		}
		switch {
		case i == len(n.Content):
			missing.WriteString(indent + field + "\n")
		case field == "" && i == 0:
			return false // what comes next would have to move to the dash
		case field == "":
			line := t.lines[n.Content[i].Line-1]
			t.replace(line, t.fieldEnd(s, n, i), "")
		default:
			t.rewriteField(s, n, i, field, k)
		}
	}
	if missing.Len() > 0 {
		t.insert(s.end, missing.String())
	}
	return true
}

// fieldEnd returns the end of the lines of the field whose name is the mapping's i-th node.
func (t *text) fieldEnd(s span, n *yaml.Node, i int) int {
	last := n.Content[i].Line + 1
	if i+2 < len(n.Content) {
		last = n.Content[i+2].Line
	} else {
		for last < len(t.lines) && t.lines[last-1] < s.end {
			last++
		}
	}
	return t.trimmed(n.Content[i].Line, last, n.Column-1)
}

func (t *text) rewriteField(s span, n *yaml.Node, i int, field string, k *keystore.Key) {
	name, value := n.Content[i], n.Content[i+1]
	end := t.fieldEnd(s, n, i)
	if name.Value == "ip_whitelist" && k.Whitelist.Restricted() && t.rewriteList(value, end, k.Whitelist.Prefixes()) {
		return
	}
	start := t.offset(name)
	if end == t.lines[name.Line] { // one line
		first, rest, more := strings.Cut(field, "\n")
		if field = first + t.comment(name, value); more {
			field += "\n" + rest
		}
	}
	if t.data[end-1] == '\n' {
		field += "\n"
	}
	t.replace(start, end, field)
}

// rewriteList makes a list that has a line for each entry hold the prefixes: it removes and
// adds lines. It reports whether the list is such.
func (t *text) rewriteList(list *yaml.Node, end int, prefixes []netip.Prefix) bool {
	if list.Kind != yaml.SequenceNode || list.Style&yaml.FlowStyle != 0 || len(prefixes) == 0 {
		return false
	}
	for i, n := range list.Content {
		if n.Kind != yaml.ScalarNode || t.itemLine(n, list.Column) != n.Line || i > 0 && n.Line == list.Content[i-1].Line {
			return false
		}
	}
	for _, n := range list.Content {
		p, err := keystore.ParseWhitelistEntry(n.Value)
		if err == nil && len(prefixes) > 0 && p == prefixes[0] {
			prefixes = prefixes[1:]
			continue
		}
		t.replace(t.lines[n.Line-1], t.lines[n.Line], "")
	}
	var added strings.Builder
	for _, p := range prefixes {
		added.WriteString(strings.Repeat(" ", list.Column-1) + "- " + scalar(keystore.FormatWhitelistEntry(p)) + "\n")
	}
	if added.Len() > 0 {
		t.insert(end, added.String())
	}
	return true
}
