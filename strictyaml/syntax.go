package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Parse reads the one document in data and returns its root, or nil where it is empty or not
// YAML, which is an error in the Decoder.
func (d *Decoder) Parse(data []byte) *yaml.Node {
	root, second, err := parse(data)
	switch {
	case errors.Is(err, io.EOF):
		d.Errors = append(d.Errors, &Error{File: d.File, Message: "the file is empty"})
		return nil
	case err != nil:
		line, column := locate(data, err)
		d.Errors = append(d.Errors, &Error{File: d.File, Line: line + d.FirstLine, Column: column, Message: explain(err)})
		return nil
	case second != nil:
		d.Errorf(second, "a second document starts here: write one document a file")
		return nil
	}
	return root
}

// parse returns the root of the document in data, the root of the one that follows it, if
// any, and [io.EOF] where there is no document at all.
func parse(data []byte) (root, second *yaml.Node, err error) {
	defer func() {
		// The parser panics on what it calls internal errors: to a reader of files, text that
		// cannot be read.
		if r := recover(); r != nil {
			root, second, err = nil, nil, fmt.Errorf("yaml: %v", r)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var docs [2]yaml.Node
	if err := dec.Decode(&docs[0]); err != nil {
		return nil, nil, err
	}
	if err := dec.Decode(&docs[1]); err == nil {
		second = docs[1].Content[0]
	} else if !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	return docs[0].Content[0], second, nil
}

// locateBudget bounds how many bytes are read again to find the place of an error.
const locateBudget = 64 << 20

var yamlErrorLine = regexp.MustCompile(`^yaml: line (\d+): `)

// locate returns the line at which data stops being YAML. The parser itself names the line
// where the outermost thing that it was reading began, if any; so this looks for the first
// line that the text before can do without.
func locate(data []byte, cause error) (line, column int) {
	lines := bytes.SplitAfter(data, []byte("\n"))
	last := min(linesRead(data), len(lines)) // nothing after it was looked at
	hint := 1
	if m := yamlErrorLine.FindStringSubmatch(cause.Error()); m != nil {
		hint, _ = strconv.Atoi(m[1])
	}
	line = min(hint, len(lines))
	end := len(bytes.Join(lines[:last], nil))
	for budget := locateBudget; last > 0 && budget > 0; last-- {
		end -= len(lines[last-1])
		budget -= end
		if _, _, err := parse(data[:end]); err == nil || errors.Is(err, io.EOF) {
			line = last
			break
		}
	}
	text := bytes.TrimRight(lines[line-1], " \t\r\n")
	indent := text[:len(text)-len(bytes.TrimLeft(text, " \t"))]
	return line, utf8.RuneCount(indent) + 1
}

// linesRead returns how many lines of data the parser takes in before it gives up.
func linesRead(data []byte) int {
	r := &byteReader{data: data}
	defer func() { _ = recover() }()
	_ = yaml.NewDecoder(r).Decode(new(yaml.Node))
	return bytes.Count(data[:r.n], []byte("\n")) + 1
}

// A byteReader hands out one byte at a time, so that its n tells how far the parser came.
type byteReader struct {
	data []byte
	n    int
}

func (r *byteReader) Read(p []byte) (int, error) {
	if r.n == len(r.data) {
		return 0, io.EOF
	}
	p[0] = r.data[r.n]
	r.n++
	return 1, nil
}

// explanations says in plain words what the parser means.
var explanations = []struct{ parser, plain string }{
	{"did not find expected '-' indicator", "this line does not fit under the one before: check its indentation"},
	{"did not find expected key", "this line does not fit under the one before: check its indentation and its quotes"},
	{"found a tab character that violates indentation", "a tab where only spaces may indent: write spaces"},
	{"found character that cannot start any token", "a character that no value can begin with: write the value in quotes, and spaces instead of tabs"},
	{"mapping values are not allowed in this context", "a second `: ` in a value, or a line indented too far: write the value in quotes, or check the indentation"},
	{"could not find expected ':'", "no `: ` after a field's name"},
	{"found unexpected end of stream", "a quote that is not closed"},
	{"did not find expected ',' or ']'", "a list that is not closed, or no comma between two of its items"},
	{"did not find expected ',' or '}'", "a { that is not closed, or no comma between two of its fields"},
	{"control characters are not allowed", "a control character: write plain text"},
	{"UTF-8", "not UTF-8 text: save the file as UTF-8"},
}

func explain(err error) string {
	says := yamlErrorLine.ReplaceAllString(err.Error(), "yaml: ")
	says = strings.TrimPrefix(says, "yaml: ")
	for _, e := range explanations {
		if strings.Contains(says, e.parser) {
			return "not YAML: " + e.plain
		}
	}
	return "not YAML: " + says
}
