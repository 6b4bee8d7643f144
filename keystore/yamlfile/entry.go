package yamlfile

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// An entryText is the text of one key while it is edited.
type entryText struct {
	data  []byte
	lines []int // where each line starts, and the end
}

var aliasName = regexp.MustCompile(`\*([0-9A-Za-z_-]+)`)

// rewriteEntry returns the new text of a key that has changed, or false if the old text cannot be
// parsed. If possible it changes only the fields that differ. Otherwise it writes the whole key,
// below the comments that were in it.
func (l *listText) rewriteEntry(text []byte, before, after *keystore.Key) (string, bool) {
	// The entry is parsed after one with all anchors that it may refer to, and before another one, so
	// that the comments at its end are not those of the whole text.
	anchors := []byte(l.indent + "- [~")
	for _, m := range aliasName.FindAllSubmatch(text, -1) {
		anchors = fmt.Appendf(anchors, ", &%s ~", m[1])
	}
	anchors = append(anchors, "]\n"...)
	t := entryText{data: slices.Concat(anchors, text), lines: []int{0}}
	for line := range bytes.Lines(t.data) {
		t.lines = append(t.lines, t.lines[len(t.lines)-1]+len(line))
	}
	var d strictyaml.Decoder
	root := d.Parse(slices.Concat(t.data, []byte("\n"+l.indent+"- ~\n")))
	if root == nil || root.Kind != yaml.SequenceNode || len(root.Content) != 3 {
		return "", false
	}
	n := root.Content[1]
	if n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle == 0 {
		if out, ok := t.rewriteFields(l, n, before, after); ok {
			return out[len(anchors):], true
		}
	}
	var out strings.Builder
	for _, comment := range comments(root, text) {
		out.WriteString(l.indent + comment + "\n")
	}
	return l.withEOL(out.String() + formatKey(after, l.indent)), true
}

// comments returns the lines of the comments at a node and within it that are in text.
func comments(n *yaml.Node, text []byte) (lines []string) {
	for line := range strings.SplitSeq(n.HeadComment+"\n"+n.LineComment+"\n"+n.FootComment, "\n") {
		if line != "" && bytes.Contains(text, []byte(line)) {
			lines = append(lines, line)
		}
	}
	for _, child := range n.Content {
		lines = append(lines, comments(child, text)...)
	}
	return lines
}

// rewriteFields returns the text with changes to only those fields that differ, or false if that is
// not possible.
func (t *entryText) rewriteFields(l *listText, n *yaml.Node, before, after *keystore.Key) (string, bool) {
	indent := strings.Repeat(" ", n.Column-1)
	changed := make(map[string]string) // the new lines of the fields that differ, by name
	for _, f := range fields {
		if f.format(before) != f.format(after) {
			changed[f.name] = f.line(after, indent)
		}
	}
	if line, ok := changed["enabled"]; ok && line == "" {
		changed["enabled"] = "enabled: true"
	}
	out, at := "", 0
	for i := 0; i < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		line, ok := changed[name.Value]
		if !ok {
			continue
		}
		delete(changed, name.Value)
		start, end := t.offset(name), t.fieldEnd(n, i)
		switch {
		case line == "" && i == 0:
			return "", false // the next field would have to move to the dash
		case line == "":
			start = t.lines[name.Line-1]
		case name.Value == "ip_whitelist" && t.isBlockList(value):
			line = t.rewriteList(l, start, end, value, after.Whitelist.Prefixes())
		case value.Kind == yaml.MappingNode && end > t.lines[name.Line] && len(comments(value, t.data)) > 0:
			return "", false // they are kept above the key
		default:
			line = l.withEOL(t.withComment(line, name, value, end))
		}
		out += string(t.data[at:start]) + line
		at = end
	}
	out += string(t.data[at:])
	for _, f := range fields { // those that the key did not have before
		if line, ok := changed[f.name]; ok {
			if !strings.HasSuffix(out, "\n") {
				out += l.eol
			}
			out += l.withEOL(indent + line + "\n")
		}
	}
	return out, true
}

// offset returns where a node begins.
func (t *entryText) offset(n *yaml.Node) int {
	at := t.lines[n.Line-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(t.data[at:])
		at += size
	}
	return at
}

// fieldEnd returns the end of the lines of the field whose name has this index.
func (t *entryText) fieldEnd(n *yaml.Node, i int) int {
	start, end := t.lines[n.Content[i].Line-1], len(t.data)
	if i+2 < len(n.Content) {
		end = t.lines[n.Content[i+2].Line-1]
	}
	return start + len(strictyaml.TrimComments(t.data[start:end], n.Column-1))
}

// withComment returns the new lines of a field with the comment at the end of its only line, and
// with a line end if it has one.
func (t *entryText) withComment(field string, name, value *yaml.Node, end int) string {
	line := bytes.TrimRight(t.data[t.lines[name.Line-1]:t.lines[name.Line]], "\r\n")
	for _, n := range append([]*yaml.Node{name, value}, value.Content...) {
		before, ok := bytes.CutSuffix(line, []byte(n.LineComment))
		if ok && n.LineComment != "" && end == t.lines[name.Line] {
			first, rest, more := strings.Cut(field, "\n")
			field = first + string(line[len(bytes.TrimRight(before, " \t")):])
			if more {
				field += "\n" + rest
			}
			break
		}
	}
	if t.data[end-1] == '\n' {
		field += "\n"
	}
	return field
}

// isBlockList reports whether n is a list with a line for each entry.
func (t *entryText) isBlockList(n *yaml.Node) bool {
	return n.Kind == yaml.SequenceNode && n.Style&yaml.FlowStyle == 0 && !slices.ContainsFunc(n.Content, func(entry *yaml.Node) bool {
		dash := strings.Repeat(" ", n.Column-1) + "-"
		return entry.Kind != yaml.ScalarNode || !bytes.HasPrefix(t.data[t.lines[entry.Line-1]:], []byte(dash))
	})
}

// rewriteList returns the text from start to end, in which such a list is, with lines removed and
// added so that the list has these prefixes.
func (t *entryText) rewriteList(l *listText, start, end int, list *yaml.Node, prefixes []netip.Prefix) string {
	out := ""
	for _, n := range list.Content {
		p, err := keystore.ParseWhitelistEntry(n.Value)
		if err == nil && len(prefixes) > 0 && p == prefixes[0] {
			prefixes = prefixes[1:]
			continue
		}
		out += string(t.data[start:t.lines[n.Line-1]])
		start = t.lines[n.Line]
	}
	out += string(t.data[start:end])
	if len(prefixes) > 0 && !strings.HasSuffix(out, "\n") {
		out += l.eol
	}
	for _, p := range prefixes {
		out += strings.Repeat(" ", list.Column-1) + "- " + formatEntry(p) + l.eol
	}
	return out
}
