package strictyaml

import (
	"errors"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// read reads a mapping with one field of each kind, and returns all errors.
func read(data string) string {
	d := &Decoder{File: "f"}
	root := d.Parse([]byte(data))
	if root == nil {
		return d.Err().Error()
	}
	d.Mapping(root, Fields{
		"text":     func(n *yaml.Node) { d.String(n) },
		"plain":    func(n *yaml.Node) { d.Plain(n) },
		"bool":     func(n *yaml.Node) { d.Bool(n) },
		"int":      func(n *yaml.Node) { d.Int(n) },
		"duration": func(n *yaml.Node) { d.Duration(n) },
		"time":     func(n *yaml.Node) { d.Time(n) },
		"list":     func(n *yaml.Node) { d.Sequence(n, func(item *yaml.Node) { d.String(item) }) },
	})
	if err := d.Err(); err != nil {
		return err.Error()
	}
	return ""
}

func TestMessages(t *testing.T) {
	for _, test := range []struct{ data, want string }{
		{"text: a\nplain: 1e5\nbool: true\nint: -7\nduration: 1m30s\ntime: 2027-01-31T00:00:00Z\nlist: [a, b]\n", ""},
		{"{\"text\": \"a\", \"list\": []}", ""},
		{"--- \ntext: 2027-01-31 # a date is text\nbool: False\n...\n", ""},
		{"a: &x b\n", "f:1:1: unknown field \"a\": the fields here are bool, duration, int, list, plain, text, time"},
		{"list: &l [a]\ntext: *l\n", "f:1:7: a list where text is expected: write a single value"},
		{"list: &l [a, *l]\n", "f:1:7: a list where text is expected: write a single value"},
		{"lst: []\n", "f:1:1: unknown field \"lst\": did you mean list?"},
		{"Text: a\n", "f:1:1: unknown field \"Text\": did you mean text?"},
		{"text: a\nint: 1\ntext: b\n", "f:3:1: field \"text\" appears twice: keep one of them"},
		{"<<: {text: a}\n", "f:1:1: << merges fields from elsewhere, which is not supported: write the fields out"},
		{"[a]: b\n", "f:1:1: a list where the name of a field is expected: write `name: value` lines"},
		{"text: 12\n", "f:1:7: 12 is a number, not text: write it in quotes, \"12\""},
		{"text: true\n", "f:1:7: true is true or false, not text: write it in quotes, \"true\""},
		{"text:\n", "f:1:6: nothing where text is expected: write a single value, or omit it"},
		{"plain: ~\n", "f:1:8: nothing where text is expected: write a single value, or omit it"},
		{"plain: !!binary aGVsbG8=\n", "f:1:8: a value tagged !!binary where text is expected: write a single value, without the tag"},
		{"text: !mine a\n", "f:1:7: a value tagged !mine where text is expected: write a single value, without the tag"},
		{"bool: yes\nint: 1.5\nduration: 1d\n", "f:1:7: \"yes\" where true or false is expected: write one of them\n" +
			"f:2:6: \"1.5\" where a whole number is expected: write one such as 100\n" +
			"f:3:11: \"1d\" where a duration is expected: write one such as 200ms, 30s, 5m or 24h"},
		{"bool:\nint: []\nduration: {}\n", "f:1:6: nothing where true or false is expected: write one of them, or omit it\n" +
			"f:2:6: a list where a whole number is expected: write one such as 100\n" +
			"f:3:11: a mapping where a duration is expected: write one such as 200ms, 30s, 5m or 24h"},
		{"time: 2027-01-31\n", "f:1:7: \"2027-01-31\" where a time is expected: write it with its time and zone, as in 2027-01-31T00:00:00Z"},
		{"list: a\n", "f:1:7: text where a list is expected: write `[a, b]`, or a `- ` line for each"},
		{"list: [a, 1]\n", "f:1:11: 1 is a number, not text: write it in quotes, \"1\""},
		{"list: [\"ü東🔑\", 1]\n", "f:1:15: 1 is a number, not text: write it in quotes, \"1\""},
		{"\ufefftext: 1\n", "f:1:7: 1 is a number, not text: write it in quotes, \"1\""},
		{"text: a\r\nint: b\r\n", "f:2:6: \"b\" where a whole number is expected: write one such as 100"},
		{"- a\n", "f:1:1: a list where a mapping is expected: write `name: value` lines"},
		{"a\n", "f:1:1: text where a mapping is expected: write `name: value` lines"},
		{"", "f: the file is empty"},
		{"\ufeff", "f: the file is empty"},
		{"# a comment\n\n# another\n", "f: the file is empty"},
		{"---\n", "f: the file is empty"},
		{"--- ~\n", "f:1:5: nothing where a mapping is expected: write `name: value` lines, or omit it"},
		{"text: a\n---\ntext: b\n", "f:3:1: a second document starts here: write one document per file"},
	} {
		if got := read(test.data); got != test.want {
			t.Errorf("%q\n got: %s\nwant: %s", test.data, got, test.want)
		}
	}
}

// For these, the parser reports another line, or none.
func TestSyntaxErrors(t *testing.T) {
	for _, test := range []struct{ data, want string }{
		{"keys:\n  - id: a\n   hash: b\n  - id: c\n", "f:3:4: not YAML: this line does not fit under the one before: check its indentation"},
		{"keys:\n  - id: a\n    hash: b\n   name: c\n  - id: c\n\n\n", "f:4:4: "},
		{"# c\nkeys:\n  - id: a\n  hash: b\n# x\nfoo: bar\n", "f:4:3: "},
		{"keys:\n\t- id: a\n", "f:2:2: not YAML: a character that no value can begin with: write the value in quotes, and spaces instead of tabs"},
		{"keys:\n  - id: a\n\thash: b\n", "f:3:2: not YAML: a tab where only spaces may indent: write spaces"},
		{"keys:\n  - id: \"abc\n    hash: d\n  - id: x\n", "f:2:3: not YAML: a quote that is not closed"},
		{"keys:\n  - id: [a, b\n    hash: d\n  - id: x\n", "f:2:3: not YAML: a list that is not closed, or no comma between two of its items"},
		{"keys:\n  - {id: a, hash: b\n  - {id: c}\n", "f:2:3: not YAML: a { that is not closed, or no comma between two of its fields"},
		{"keys:\n  - id: 'a'b\n    hash: d\n", "f:2:3: "},
		{"keys:\n  - id: *foo\n    hash: d\n", "f:2:3: not YAML: there is no anchor &foo above this alias: write the value itself, or, if it is text that begins with *, in quotes"},
		{"keys:\n  - id: @foo\n    hash: d\n", "f:2:3: not YAML: a character that no value can begin with"},
		{"keys:\n  - id: a: b\n    hash: d\n", "f:2:3: not YAML: a second `: ` in a value"},
		{"a: b\nfoo\nbar: c\n", "f:2:1: not YAML: no `: ` after a field's name"},
		{"a: b\r\nfoo\r\nbar: c\r\n", "f:2:1: not YAML: no `: ` after a field's name"},
		{"]\n", "f:1:1: not YAML: "},
		{"a: [\n", "f:1:1: not YAML: "},
		{"a: b\nb: \x01\n", "f:2:1: not YAML: a control character: write plain text"},
		{"a: b\nb: \xff\xfe\n", "f:2:1: not YAML: not UTF-8 text: save the file as UTF-8"},
		{"a: b\n...\nc: [\n", "f:3:1: not YAML: "},
		{strings.Repeat("[", 20000), "f:1:1: not YAML: exceeded max depth of 10000"},
	} {
		if got := read(test.data); !strings.HasPrefix(got, test.want) {
			t.Errorf("%.60q\n got: %s\nwant: %s", test.data, got, test.want)
		}
	}
}

func TestValues(t *testing.T) {
	d := &Decoder{File: "f", Expand: func(s string) (string, error) {
		if s == "$unset" {
			return "", errors.New("$unset is not set")
		}
		return strings.ReplaceAll(s, "$n", "30"), nil
	}}
	d.Mapping(d.Parse([]byte("a: $ns\nb: '$n'\nc: 0123\nd: &x 2027-01-31T01:00:00.5+01:00\ne: *x\nf: $unset\n")), Fields{
		"a": func(n *yaml.Node) { equal(t, d.Duration(n), 30*time.Second) },
		"b": func(n *yaml.Node) { equal(t, d.Int(n), 30) },
		"c": func(n *yaml.Node) { equal(t, d.Plain(n), "0123") },
		"d": func(n *yaml.Node) { equal(t, d.Time(n).UTC(), time.Date(2027, 1, 31, 0, 0, 0, 5e8, time.UTC)) },
		"e": func(n *yaml.Node) { equal(t, d.Plain(n), "2027-01-31T01:00:00.5+01:00") },
		"f": func(n *yaml.Node) { d.Int(n) },
	})
	d.Warnf(nil, "a warning of %s", "the whole")
	equal(t, d.Err().Error(), "f:6:4: $unset is not set")
	equal(t, d.Warnings.Error(), "f: a warning of the whole")
}

func equal[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("text: a\nlist: [a, &x b, *x]\n")
	f.Add("a: &x [*x]\n")
	f.Add("a: b\n\n#c\n\n  e: f\n#d\n")
	f.Fuzz(func(t *testing.T, data string) {
		if msg := read(data); msg != "" && !strings.HasPrefix(msg, "f") {
			t.Errorf("an error without a place: %s", msg)
		}
	})
}
