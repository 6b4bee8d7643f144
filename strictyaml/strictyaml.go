// Package strictyaml reads YAML that people write by hand: it takes nothing that it does not
// know, and tells everything that is wrong at once, each with its file, line and column.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// An Error is one thing wrong at one place.
type Error struct {
	File    string
	Line    int // from 1; 0 where the whole file is meant
	Column  int // from 1, in characters
	Message string
}

// Error returns the error as file:line:column: message.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Errors is everything that is wrong, in the order of the files.
type Errors []*Error

// Error returns one line an error.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// A Decoder reads the nodes of one file and gathers what is wrong with them. The zero value
// with its File set is ready. It is not safe for concurrent use.
type Decoder struct {
	File string

	// Expand, where set, is put on every scalar that is read as a value.
	Expand func(string) (string, error)

	// FirstLine is what is added to the nodes' lines, for a text that is part of a file.
	FirstLine int

	Errors   Errors
	Warnings Errors
}

// Err returns the errors gathered so far, or nil.
func (d *Decoder) Err() error {
	if len(d.Errors) == 0 {
		return nil
	}
	return d.Errors
}

// Errorf adds an error at the place of the node.
func (d *Decoder) Errorf(n *yaml.Node, format string, args ...any) {
	d.Errors = append(d.Errors, d.at(n, format, args...))
}

// Warnf adds a warning at the place of the node.
func (d *Decoder) Warnf(n *yaml.Node, format string, args ...any) {
	d.Warnings = append(d.Warnings, d.at(n, format, args...))
}

func (d *Decoder) at(n *yaml.Node, format string, args ...any) *Error {
	e := &Error{File: d.File, Message: fmt.Sprintf(format, args...)}
	if n != nil && n.Line > 0 {
		e.Line, e.Column = n.Line+d.FirstLine, n.Column
	}
	return e
}

var yamlErrorLine = regexp.MustCompile(`^yaml: (?:unmarshal errors:\n\s*)?line (\d+): `)

// Parse reads the one document in data and returns its root, or nil where it is empty or not
// YAML, which is an error in the Decoder.
func (d *Decoder) Parse(data []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		d.Errors = append(d.Errors, &Error{File: d.File, Message: "the file is empty"})
		return nil
	} else if err != nil {
		d.syntax(err)
		return nil
	}
	var next yaml.Node
	if err := dec.Decode(&next); err == nil {
		d.Errorf(&next, "a second document starts here: write one document a file")
		return nil
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err)
		return nil
	}
	return doc.Content[0]
}

func (d *Decoder) syntax(err error) {
	e := &Error{File: d.File, Message: "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := yamlErrorLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ := strconv.Atoi(m[1])
		e.Line, e.Column = line+d.FirstLine, 1
		e.Message = "not YAML: " + strings.TrimPrefix(err.Error(), m[0])
	}
	d.Errors = append(d.Errors, e)
}

// Fields says what is done with the value of each field of a mapping.
type Fields map[string]func(value *yaml.Node)

// Mapping calls each field's function with its value. A field that is not in fields, or that
// stands twice, is an error. It reports whether n is a mapping.
func (d *Decoder) Mapping(n *yaml.Node, fields Fields) bool {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		d.Errorf(n, "%s where fields are expected: write `name: value` lines", kindOf(n))
		return false
	}
	var seen []string // a handful of names: cheaper than a map for each of many records
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, known := fields[key.Value]
		switch {
		case !known || key.Kind != yaml.ScalarNode:
			d.Errorf(key, "unknown field %q: %s", key.Value, suggest(key.Value, fields))
		case slices.Contains(seen, key.Value):
			d.Errorf(key, "field %q stands twice: keep one of them", key.Value)
		default:
			seen = append(seen, key.Value)
			read(value)
		}
	}
	return true
}

// Sequence calls each with every item of a list. It reports whether n is a list.
func (d *Decoder) Sequence(n *yaml.Node, each func(item *yaml.Node)) bool {
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		d.Errorf(n, "%s where a list is expected: write `[a, b]`, or a `- ` line for each", kindOf(n))
		return false
	}
	for _, item := range n.Content {
		each(item)
	}
	return true
}

// String returns the text of a scalar. A number or a boolean is not text: it wants quotes.
func (d *Decoder) String(n *yaml.Node) string {
	n = resolve(n)
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		d.Errorf(n, "%s where text is expected", kindOf(n))
		return ""
	}
	if n.Tag != "!!str" && n.Tag != "!!timestamp" {
		d.Errorf(n, "%s is %s, not text: write it in quotes, %q", n.Value, kindOf(n), n.Value)
		return ""
	}
	return d.expand(n)
}

// Plain returns the text of any scalar, whatever type YAML takes it for: a hash of digits
// alone, or an address.
func (d *Decoder) Plain(n *yaml.Node) string {
	n = resolve(n)
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		d.Errorf(n, "%s where text is expected", kindOf(n))
		return ""
	}
	return d.expand(n)
}

// Bool returns true or false.
func (d *Decoder) Bool(n *yaml.Node) bool {
	n = resolve(n)
	switch v := d.scalar(n); v {
	case "true":
		return true
	case "false":
	default:
		d.Errorf(n, "%s where true or false is expected: write one of them, without quotes", describe(n))
	}
	return false
}

// Int returns a whole number.
func (d *Decoder) Int(n *yaml.Node) int64 {
	n = resolve(n)
	i, err := strconv.ParseInt(d.scalar(n), 10, 64)
	if err != nil {
		d.Errorf(n, "%s where a whole number is expected", describe(n))
	}
	return i
}

// Duration returns a time span written as 200ms, 30s, 5m or 24h.
func (d *Decoder) Duration(n *yaml.Node) time.Duration {
	n = resolve(n)
	v, err := time.ParseDuration(d.scalar(n))
	if err != nil {
		d.Errorf(n, "%s where a time span is expected: write one such as 200ms, 30s, 5m or 24h", describe(n))
	}
	return v
}

// Time returns a moment written by RFC 3339.
func (d *Decoder) Time(n *yaml.Node) time.Time {
	n = resolve(n)
	t, err := time.Parse(time.RFC3339, d.scalar(n))
	if err != nil {
		d.Errorf(n, "%s where a moment is expected: write it by RFC 3339, such as 2027-01-31T00:00:00Z", describe(n))
	}
	return t
}

// scalar returns the text of a scalar, or "", which no reader takes, of anything else.
func (d *Decoder) scalar(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
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
	}
	return v
}

func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func describe(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
		return strconv.Quote(n.Value)
	}
	return kindOf(n)
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
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
	return "text"
}

// suggest names the field that was most likely meant, or all that there are.
func suggest(name string, fields Fields) string {
	names := make([]string, 0, len(fields))
	best, bestDistance := "", 3
	for f := range fields {
		names = append(names, f)
		if dist := distance(strings.ToLower(name), f); dist < bestDistance || dist == bestDistance && f < best {
			best, bestDistance = f, dist
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	slices.Sort(names)
	return "the fields here are " + strings.Join(names, ", ")
}

// distance returns the number of characters to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
