package yamlfile

import (
	"bytes"
	"crypto/sha256"
	"hash/maphash"
	"slices"

	"gopkg.in/yaml.v3"
)

const (
	splitFrom  = 64 << 10 // files of fewer bytes are read whole
	chunkItems = 64       // about as many keys are read at once
)

// chunks holds what was read of parts of files, by the parts' text, so that after a change
// only the parts that differ are read again. Places are those within the part.
type chunks map[[sha256.Size]byte][]record

// A part is a text within a file.
type part struct {
	text []byte
	line int // how many lines of the file stand before it
}

// split cuts the text of a key file into parts of some keys each, and a frame: the file with
// one empty item, and as many lines, in place of all the keys. It returns no parts where it
// cannot be sure that they would be read as the whole would; a part that is not YAML by
// itself tells so as well.
//
// A tree of all the nodes of a large file takes far more memory than its keys do. Each cut is
// before a line that begins with a dash at the list's own indentation. Of the texts that YAML
// lets run over several lines, only those in quotes or brackets could have such a line within
// them, and then the part before it would not be YAML.
func split(data []byte) (frame []byte, parts []part) {
	if len(data) < splitFrom || hasOddLines(data) {
		return nil, nil
	}
	first, indent := listStart(data)
	if first.text == nil {
		return nil, nil
	}
	parts, rest := cut(first, indent)
	if bytes.IndexByte(rest, '*') >= 0 {
		return nil, nil // an alias, maybe of an anchor within the list
	}
	list := first.text[:len(first.text)-len(rest)]
	frame = slices.Concat(
		data[:len(data)-len(first.text)],
		bytes.Repeat([]byte(" "), indent), []byte("- ~"),
		bytes.Repeat([]byte("\n"), bytes.Count(list, []byte("\n"))),
		rest)
	return frame, parts
}

// listStart returns the text from the first item of the list of keys on, and the column of
// its dash, from 0. What it finds is sure only if the frame turns out to have it so.
func listStart(data []byte) (list part, indent int) {
	below, line := false, 0
	for text := range bytes.Lines(data) {
		body := bytes.Trim(text, blanks)
		switch {
		case below && isItem(bytes.TrimLeft(text, " ")):
			return part{data, line}, len(text) - len(bytes.TrimLeft(text, " "))
		case bytes.HasPrefix(body, []byte("%")), below && !isBlank(body):
			return part{}, 0 // a directive changes how all that follows is read
		case bytes.HasPrefix(text, []byte("keys:")):
			below = isBlank(bytes.Trim(text[len("keys:"):], blanks))
		}
		data, line = data[len(text):], line+1
	}
	return part{}, 0
}

// cut divides the list's items into parts, and returns what comes after the list.
func cut(list part, indent int) (parts []part, rest []byte) {
	now := part{line: list.line}
	start, item, at, items := 0, 0, 0, 0 // where the part, its last item and the line begin
	line := list.line
	for text := range bytes.Lines(list.text) {
		body := bytes.TrimLeft(text, " ")
		if !isBlank(bytes.Trim(text, blanks)) && len(text)-len(body) <= indent {
			if len(text)-len(body) < indent || !isItem(body) {
				break // the list ends before this line
			}
			// A part ends by what its last item is, so that a change moves no other part's ends.
			if items > 0 && (items >= 8*chunkItems || maphash.Bytes(seed, list.text[item:at])%chunkItems == 0) {
				now.text = list.text[start:at]
				parts = append(parts, now)
				now = part{line: line}
				start, items = at, 0
			}
			item = at
			items++
		}
		at += len(text)
		line++
	}
	now.text = list.text[start:at]
	return append(parts, now), list.text[at:]
}

const blanks = " \t\r\n"

var seed = maphash.MakeSeed()

func isItem(line []byte) bool {
	return bytes.HasPrefix(line, []byte("- ")) || bytes.Equal(bytes.TrimRight(line, "\r\n"), []byte("-"))
}

func isBlank(line []byte) bool { return len(line) == 0 || line[0] == '#' }

// hasOddLines reports whether data may have other lines in YAML than its line feeds make, or
// is in another encoding.
func hasOddLines(data []byte) bool {
	return bytes.Count(data, []byte("\r")) != bytes.Count(data, []byte("\r\n")) || bytes.IndexByte(data, 0) >= 0 ||
		bytes.Contains(data, []byte("\u0085")) || bytes.Contains(data, []byte("\u2028")) || bytes.Contains(data, []byte("\u2029"))
}

// isFrame reports whether the list of keys in a frame is the one item that stands for all,
// where the parts begin.
func isFrame(list *yaml.Node, first part) bool {
	return list.Kind == yaml.SequenceNode && list.Style&yaml.FlowStyle == 0 && list.Anchor == "" &&
		len(list.Content) == 1 && list.Content[0].Line == first.line+1 && list.Content[0].Value == "~"
}
