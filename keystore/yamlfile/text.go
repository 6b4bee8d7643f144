package yamlfile

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// A text is a file's text while it is edited. Offsets are in bytes and always those of the
// text as it was; every edit takes effect in result.
type text struct {
	data  []byte
	lines []int // where each line starts, and the end
	edits []change
}

type change struct {
	from, to int
	with     string
}

// A span is a stretch of a text.
type span struct{ start, end int }

func newText(data []byte) *text {
	t := &text{data: data, lines: []int{0}}
	for line := range bytes.Lines(data) {
		t.lines = append(t.lines, t.lines[len(t.lines)-1]+len(line))
	}
	return t
}

func (t *text) replace(from, to int, with string) { t.edits = append(t.edits, change{from, to, with}) }

// insert adds lines before the line that starts at this offset, or after the last line.
func (t *text) insert(at int, lines string) {
	if at == len(t.data) && at > 0 && t.data[at-1] != '\n' {
		lines = "\n" + lines
	}
	t.replace(at, at, lines)
}

// result returns the text with all edits made.
func (t *text) result() []byte {
	slices.SortStableFunc(t.edits, func(a, b change) int { return cmp.Compare(a.from, b.from) })
	crlf := bytes.Contains(t.data, []byte("\r\n"))
	var out []byte
	at := 0
	for _, e := range t.edits {
		if crlf {
			e.with = strings.ReplaceAll(e.with, "\n", "\r\n")
		}
		out = append(append(out, t.data[min(at, e.from):e.from]...), e.with...)
		at = max(at, e.to)
	}
	return append(out, t.data[at:]...)
}

// offset returns where a node begins.
func (t *text) offset(n *yaml.Node) int {
	at := t.lines[min(n.Line, len(t.lines))-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(t.data[at:])
		at += size
	}
	return at
}

// line returns the line with this number, from 1.
func (t *text) line(number int) []byte { return t.data[t.lines[number-1]:t.lines[number]] }

// trimmed returns the end of the lines from first to last (exclusive, from 1) without blank
// lines and comments at their end, unless these are indented by more than column spaces.
func (t *text) trimmed(first, last, column int) int {
	for ; last > first+1; last-- {
		line := t.line(last - 1)
		body := bytes.Trim(line, blanks)
		own := !isBlank(body) || len(body) > 0 && bytes.IndexByte(line, '#') > column
		if own && string(body) != "..." {
			break
		}
	}
	return t.lines[last-1]
}

// itemLine returns the number of the line with the dash before a list's item.
func (t *text) itemLine(n *yaml.Node, column int) int {
	for line := n.Line; line > 1; line-- {
		s := t.line(line)
		if len(s) >= column && s[column-1] == '-' && len(bytes.TrimLeft(s, " ")) == len(s)-column+1 {
			return line
		}
	}
	return n.Line
}

// spans returns the lines of each item of a list, which ends before the line last.
func (t *text) spans(list *yaml.Node, last int) []span {
	spans := make([]span, len(list.Content))
	for i, n := range slices.Backward(list.Content) {
		first := t.itemLine(n, list.Column)
		spans[i] = span{t.lines[first-1], t.trimmed(first, last, list.Column-1)}
		last = first
	}
	return spans
}

// fill puts items into a list that is an empty pair of brackets.
func (t *text) fill(list *yaml.Node, items string) {
	start := t.offset(list)
	end := start + bytes.IndexByte(t.data[start:], ']') + 1
	rest := t.data[end:]
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i+1]
	}
	t.replace(len(bytes.TrimRight(t.data[:start], " ")), end, "")
	t.insert(end+len(rest), items)
}

// empty puts a pair of brackets after the name of a list whose items are all removed.
func (t *text) empty(name *yaml.Node) {
	at := t.offset(name)
	at += bytes.IndexByte(t.data[at:], ':') + 1
	t.replace(at, at, " []")
}

// comment returns the comment at the end of the line that begins with the field's name, with
// the spaces before it, or "".
func (t *text) comment(name, value *yaml.Node) string {
	line := bytes.TrimRight(t.line(name.Line), "\r\n")
	for _, n := range append([]*yaml.Node{name, value}, value.Content...) {
		if c := n.LineComment; c != "" && bytes.HasSuffix(line, []byte(c)) {
			before := bytes.TrimSuffix(line, []byte(c))
			return string(line[len(bytes.TrimRight(before, " \t")):])
		}
	}
	return ""
}

// endLine returns data with its last line ended.
func endLine(data []byte) []byte {
	if len(data) > 0 && data[len(data)-1] != '\n' {
		return append(slices.Clip(data), '\n')
	}
	return data
}
