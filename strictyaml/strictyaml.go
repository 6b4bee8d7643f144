// Package strictyaml reads YAML that people write by hand: it accepts only what it knows, and reports
// everything that is wrong at once, each error with its file, line and column.
package strictyaml

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// An Error is an error at one place in a file.
type Error struct {
	File    string
	Line    int // from 1; 0 if the error is about the whole file
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

// Errors are several errors, in the order of the files.
type Errors []*Error

// Error returns one line for each error.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// A Decoder reads the nodes of one file and collects what is wrong with them. The zero value with
// its File set is ready to use. A Decoder is not safe for concurrent use.
type Decoder struct {
	File string

	// Expand, if non-nil, is applied to every scalar that is read as a value. If it fails, its
	// error is the only one about that scalar.
	Expand func(string) (string, error)

	// WhenEmpty says what to write into a file that is empty.
	WhenEmpty string

	Errors   Errors
	Warnings Errors

	unexpanded *yaml.Node // the last scalar on which Expand failed
}

// Err returns the errors so far, or nil.
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

const noMerge = "<< merges fields from elsewhere, which is not supported: write the fields out"

// Fields are functions for the values of the fields of a mapping, by the fields' names.
type Fields map[string]func(value *yaml.Node)

// Mapping calls each field's function with its value. A field that is not in fields, or that
// appears twice, is an error. It reports whether n is a mapping.
func (d *Decoder) Mapping(n *yaml.Node, fields Fields) bool {
	n = Resolve(n)
	if n.Kind != yaml.MappingNode {
		d.unexpected(n, kindOf(n), "a mapping", "write `name: value` lines")
		return false
	}
	var seen []string // faster than a map for a few names
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, known := fields[key.Value]
		switch {
		case key.Tag == "!!merge":
			d.Errorf(key, noMerge)
		case key.Kind != yaml.ScalarNode:
			d.Errorf(key, "%s where the name of a field is expected: write `name: value` lines", kindOf(Resolve(key)))
		case !known:
			d.Errorf(key, "unknown field %q: %s", key.Value, suggest(key.Value, fields))
		case slices.Contains(seen, key.Value):
			d.Errorf(key, "field %q appears twice: keep one of them", key.Value)
		default:
			seen = append(seen, key.Value)
			read(value)
		}
	}
	return true
}

// Sequence calls each with every entry of a list. It reports whether n is a list.
func (d *Decoder) Sequence(n *yaml.Node, each func(entry *yaml.Node)) bool {
	n = Resolve(n)
	if n.Kind != yaml.SequenceNode {
		d.unexpected(n, kindOf(n), "a list", "write `[a, b]`, or a `- ` line for each")
		return false
	}
	for _, entry := range n.Content {
		each(entry)
	}
	return true
}
