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

// Parse parses the one document in data and returns its root. It returns nil, and adds an error, if
// data is empty or not YAML.
func (d *Decoder) Parse(data []byte) *yaml.Node {
	root, second, err := parse(data)
	switch {
	case errors.Is(err, io.EOF), err == nil && second == nil && root.Tag == "!!null" && root.Value == "":
		message := "the file is empty"
		if d.WhenEmpty != "" {
			message += ": " + d.WhenEmpty
		}
		d.Errors = append(d.Errors, &Error{File: d.File, Message: message})
		return nil
	case err != nil:
		line, column := locate(data, err)
		d.Errors = append(d.Errors, &Error{File: d.File, Line: line, Column: column, Message: explain(err)})
		return nil
	case second != nil:
		d.Errorf(second, "a second document starts here: write one document per file")
		return nil
	}
	return root
}

// parse returns the root of the document in data, and the root of the document after it, if any. Its
// error is [io.EOF] if there is no document.
func parse(data []byte) (root, second *yaml.Node, err error) {
	defer func() {
		// The parser panics on what it calls internal errors.
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

var unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced`)

var yamlErrorLine = regexp.MustCompile(`^yaml: line (\d+): `)

// locate returns the position at which data stops being YAML. The parser itself reports the line, if
// any, where the outermost construct began. So this function looks for a line before which the text
// is YAML, among the lines that the parser read last, then near the one it reported, then in all.
func locate(data []byte, cause error) (line, column int) {
	ends := []int{0}
	for text := range bytes.Lines(data) {
		ends = append(ends, ends[len(ends)-1]+len(text))
	}
	last := min(linesRead(data), len(ends)-1)
	named := 1
	if m := yamlErrorLine.FindStringSubmatch(cause.Error()); m != nil {
		named, _ = strconv.Atoi(m[1])
	}
	line = min(named, last)
	budget := 4<<20 + 3*len(data) // how many bytes may be parsed again
	isYAML := func(lines int) bool {
		budget -= ends[lines]
		_, _, err := parse(data[:ends[lines]])
		return err == nil || errors.Is(err, io.EOF)
	}
	for i := last; i > 0 && budget > 0; i-- {
		if isYAML(i - 1) {
			line = i
			break
		}
		if i == last-3 {
			if at := min(named+1, last); isYAML(at-1) && !isYAML(at) {
				line = at
				break
			}
			if isYAML(line-1) && !isYAML(line) {
				break
			}
		}
	}
	text := bytes.TrimRight(data[ends[line-1]:ends[line]], " \t\r\n")
	indent := text[:len(text)-len(bytes.TrimLeft(text, " \t"))]
	return line, utf8.RuneCount(indent) + 1
}

// linesRead returns how many lines of data the parser reads before it fails.
func linesRead(data []byte) int {
	r := &byteReader{data: data}
	defer func() { _ = recover() }()
	_ = yaml.NewDecoder(r).Decode(new(yaml.Node))
	return bytes.Count(data[:r.n], []byte("\n")) + 1
}

// A byteReader returns one byte at a time, so that n is how many bytes the parser has read.
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

// explanations are plain messages for the errors of the parser.
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
	{"did not find expected node content", "no value where one is expected, or one that begins with a mark such as `:`: write it in quotes, as in \"::1\""},
	{"control characters are not allowed", "a control character: write plain text"},
	{"UTF-8", "not UTF-8 text: save the file as UTF-8"},
}

func explain(err error) string {
	says := yamlErrorLine.ReplaceAllString(err.Error(), "yaml: ")
	says = strings.TrimPrefix(says, "yaml: ")
	if m := unknownAnchor.FindStringSubmatch(says); m != nil {
		return "not YAML: there is no anchor &" + m[1] + " above this alias: write the value itself, or, if it is text that begins with *, in quotes"
	}
	for _, e := range explanations {
		if strings.Contains(says, e.parser) {
			return "not YAML: " + e.plain
		}
	}
	return "not YAML: " + says
}
