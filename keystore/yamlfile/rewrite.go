package yamlfile

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// rewrite returns the text of a file after an edit: those of its keys that are in changed have
// changed, or are deleted if changed to nil, and the added ones follow. All other text is the same.
func rewrite(f parsedFile, changed map[string]*keystore.Key, added []*keystore.Key) ([]byte, error) {
	keys := f.keys()
	if len(added) == 0 && !slices.ContainsFunc(keys, func(k *keystore.Key) bool { _, ok := changed[k.ID]; return ok }) {
		return f.data, nil
	}
	if strictyaml.HasUnusualLines(f.data) {
		return nil, strictyaml.Errors{{File: f.path, Message: "not all lines end in a line feed: save the file as UTF-8 with plain line ends to edit it here"}}
	}
	l := splitList(f.data)
	if len(keys) == 0 {
		return l.fill(f, added)
	}
	if len(l.entries) != len(keys) {
		return nil, notBlockList(f)
	}
	out, left := bytes.Clone(l.head), len(keys)+len(added)
	for i, k := range keys {
		own := strictyaml.TrimComments(l.entries[i], len(l.indent))
		switch after, ok := changed[k.ID]; {
		case !ok:
			out = append(out, own...)
		case after == nil:
			left--
		default:
			text, ok := l.rewriteEntry(own, k, after)
			if !ok {
				return nil, notEditable(f.path)
			}
			out = append(out, text...)
		}
		if i == len(keys)-1 {
			out = l.appendKeys(out, added)
		}
		out = append(out, l.entries[i][len(own):]...)
	}
	if left == 0 {
		out = slices.Insert(out, keysField.FindIndex(out)[1], []byte(" []")...)
	}
	return append(out, l.tail...), nil
}

var keysField = strictyaml.FieldPattern("keys")

// A listText is the text of a key file, divided at the entries of its list.
type listText struct {
	head    []byte
	entries [][]byte // each with the comments and empty lines after it
	tail    []byte
	indent  string // of the entries' dashes
	eol     string
}

// splitList divides the text of a file. There are no entries if the list is not in block form.
func splitList(data []byte) *listText {
	l := &listText{head: data, indent: "  ", eol: "\n"}
	if bytes.Contains(data, []byte("\r\n")) {
		l.eol = "\r\n"
	}
	s := strictyaml.NewListSplitter(bytes.NewReader(data), "keys")
	head, ok, _ := s.Head(len(data)) // such a reader returns no errors
	if !ok {
		return l
	}
	l.head, l.indent = data[:len(head)], strings.Repeat(" ", s.Indent)
	for last := false; !last; {
		var entry []byte
		entry, last, _ = s.Entry()
		l.entries = append(l.entries, data[s.Offset-len(entry):s.Offset])
	}
	l.tail = data[s.Offset:]
	return l
}

// withEOL returns generated text with the file's line ends.
func (l *listText) withEOL(text string) string { return strings.ReplaceAll(text, "\n", l.eol) }

// appendKeys appends new keys to text, which may lack its last line end.
func (l *listText) appendKeys(text []byte, keys []*keystore.Key) []byte {
	if len(keys) > 0 && len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, l.eol...)
	}
	for _, k := range keys {
		text = append(text, l.withEOL(formatKey(k, l.indent))...)
	}
	return text
}

// withoutKeys matches a file without keys: with an empty list, without a list, or with nothing but
// comments. Its groups are the line of the list and the brackets.
var withoutKeys = regexp.MustCompile(`\A(?:(?:[ \t\r]*|[ \t]*#[^\n]*|---[ \t\r]*)\n)*` +
	`( *(?:keys|"keys"|'keys')[ \t]*:([ \t]*\[[ \t]*\])?(?:[ \t\r]*|[ \t]+#[^\n]*)(?:\n|\z))?` +
	`(?:(?:[ \t\r]*|[ \t]*#[^\n]*|\.\.\.[ \t\r]*)\n)*(?:[ \t\r]*|[ \t]*#[^\n]*)\z`)

// fill returns the text of a file without keys with keys in it.
func (l *listText) fill(f parsedFile, added []*keystore.Key) ([]byte, error) {
	m := withoutKeys.FindSubmatchIndex(f.data)
	if m == nil {
		return nil, notBlockList(f)
	}
	out, end := bytes.Clone(f.data), m[3]
	if m[2] < 0 {
		if end = len(out); end > 0 && out[end-1] != '\n' {
			out = append(out, l.eol...)
		}
		out = append(out, "keys:"+l.eol...)
	} else if out = out[:end]; m[4] >= 0 {
		out = slices.Delete(out, m[4], m[5])
	}
	return append(l.appendKeys(out, added), f.data[end:]...), nil
}

var bracketsList = regexp.MustCompile(`keys["']?\s*:\s*\[`)

// notBlockList returns the error for a file whose list is not in block form.
func notBlockList(f parsedFile) error {
	m := bracketsList.FindIndex(f.data)
	if m == nil {
		return notEditable(f.path)
	}
	before := f.data[:m[1]]
	return strictyaml.Errors{{
		File: f.path, Line: 1 + bytes.Count(before, []byte("\n")), Column: utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]),
		Message: "the keys are written in brackets: write each as a `- ` entry on lines of its own to edit them here",
	}}
}
