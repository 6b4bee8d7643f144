// Package strictyaml reads YAML that people write by hand: it takes nothing that it does not
// know, and tells everything that is wrong at once, each with its file, line and column.
package strictyaml

import (
	"fmt"
	"slices"
	"strings"

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

	// Expand, where set, is put on every scalar that is read as a value. Where it fails, its
	// error is the only one about that scalar.
	Expand func(string) (string, error)

	// WhenEmpty says what to write into a file that is empty.
	WhenEmpty string

	Errors   Errors
	Warnings Errors

	unexpanded *yaml.Node // the last scalar on which Expand failed
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
	if n != nil && n == d.unexpanded {
		return
	}
	d.Errors = append(d.Errors, d.at(n, format, args...))
}

// Warnf adds a warning at the place of the node.
func (d *Decoder) Warnf(n *yaml.Node, format string, args ...any) {
	d.Warnings = append(d.Warnings, d.at(n, format, args...))
}

func (d *Decoder) at(n *yaml.Node, format string, args ...any) *Error {
	e := &Error{File: d.File, Message: fmt.Sprintf(format, args...)}
	if n != nil && n.Line > 0 {
		e.Line, e.Column = n.Line, n.Column
	}
	return e
}

const noMerge = "<< takes fields over from elsewhere, which is not supported: write the fields out"

// Fields says what is done with the value of each field of a mapping.
type Fields map[string]func(value *yaml.Node)

// Mapping calls each field's function with its value. A field that is not in fields, or that
// stands twice, is an error. It reports whether n is a mapping.
func (d *Decoder) Mapping(n *yaml.Node, fields Fields) bool {
	n = Resolve(n)
	if n.Kind != yaml.MappingNode {
		d.unexpected(n, kindOf(n), "a mapping", "write `name: value` lines")
		return false
	}
	var seen []string // a handful of names: cheaper than a map for each of many records
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, known := fields[key.Value]
		switch {
		case key.Tag == "!!merge":
			d.Errorf(key, noMerge)
		case key.Kind != yaml.ScalarNode:
			d.Errorf(key, "%s where a field's name is expected: write `name: value` lines", kindOf(Resolve(key)))
		case !known:
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
	n = Resolve(n)
	if n.Kind != yaml.SequenceNode {
		d.unexpected(n, kindOf(n), "a list", "write `[a, b]`, or a `- ` line for each")
		return false
	}
	for _, item := range n.Content {
		each(item)
	}
	return true
}
