package strictyaml

import (
	"bytes"
	"hash/crc32"
	"io"
	"regexp"
	"slices"
	"strings"
)

const (
	bufferSize   = 256 << 10 // how much of a file is read at once
	chunkEntries = 16        // the mean number of entries in a chunk
)

// A ListSplitter splits the text of a YAML file with one field, a list, as it is read: into the head
// before the first entry, chunks of some entries each, and the rest. What its methods return is
// valid until the next call. It divides lists in block form, before lines with a dash at the list's
// own indentation. Only a quoted text or brackets can have such a line within an entry, and then
// the chunk before that line is not YAML; the caller has to check that it is.
type ListSplitter struct {
	Line   int // how many lines were returned
	Offset int // how many bytes were returned
	Indent int // of the list's dashes

	in    io.Reader
	field *regexp.Regexp
	buf   []byte
	start int  // where the text in buf begins that was not returned yet
	eof   bool // all of in is in buf
}

// NewListSplitter returns a splitter of a file whose list is in the field with this name.
func NewListSplitter(in io.Reader, field string) *ListSplitter {
	return &ListSplitter{in: in, field: FieldPattern(field), buf: make([]byte, 0, bufferSize)}
}

// FieldPattern returns a regular expression that matches the name of a field of the root, with its
// colon.
func FieldPattern(name string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^ *(?:` + name + `|"` + name + `"|'` + name + `')[ \t]*:`)
}

// Head returns the text before the first entry of the list. It returns ok false if there is no list
// in block form within the first limit bytes, or more than comments and the mark --- before it.
func (s *ListSplitter) Head(limit int) (text []byte, ok bool, err error) {
	marked, inList := false, false
	lines := 0
	for size := 0; size < limit; lines++ {
		line, err := s.lineAt(size)
		if err != nil {
			return nil, false, err
		}
		s.Indent = len(line) - len(bytes.TrimLeft(line, " "))
		field := s.field.FindIndex(line)
		switch {
		case inList && s.startsEntry(line):
			return s.take(size, lines), true, nil
		case len(line) > 0 && isBlank(line):
		case !marked && !inList && string(bytes.TrimRight(line, " \r\n")) == "---":
			marked = true
		case !inList && field != nil && isBlank(line[field[1]:]):
			inList = true
		default:
			return nil, false, nil
		}
		size += len(line)
	}
	return nil, false, nil
}

// Chunk returns the next entries of the list, and whether they are its last. There must be one.
func (s *ListSplitter) Chunk() (text []byte, last bool, err error) {
	size, lines := 0, 0
	for n := 1; ; n++ {
		entrySize, entryLines, more, err := s.entryAt(size)
		if err != nil {
			return nil, false, err
		}
		// A chunk ends after an entry that hashes so, so that a change moves no other chunk's end.
		isEnd := crc32.Checksum(s.buf[s.start+size:][:entrySize], castagnoli)%chunkEntries == 0
		size, lines = size+entrySize, lines+entryLines
		if !more || isEnd || n == 8*chunkEntries {
			return s.take(size, lines), !more, nil
		}
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli) // which processors compute

// Entry returns the next entry, with comments and empty lines after it, and whether it is the last.
// There must be one.
func (s *ListSplitter) Entry() (text []byte, last bool, err error) {
	size, lines, more, err := s.entryAt(0)
	return s.take(size, lines), !more, err
}

// entryAt returns the size and the number of lines of the entry that begins at this offset, and
// whether another entry follows.
func (s *ListSplitter) entryAt(at int) (size, lines int, more bool, err error) {
	for {
		line, err := s.lineAt(at + size)
		if err != nil || len(line) == 0 {
			return size, lines, false, err
		}
		if lines > 0 && !s.isDeeper(line) && !isBlank(line) {
			return size, lines, s.startsEntry(line), nil
		}
		size, lines = size+len(line), lines+1
	}
}

// Rest returns a reader of all that was not returned yet.
func (s *ListSplitter) Rest() io.Reader {
	if s.eof {
		return bytes.NewReader(s.buf[s.start:])
	}
	return io.MultiReader(bytes.NewReader(s.buf[s.start:]), s.in)
}

// AtEnd reports whether all text was returned.
func (s *ListSplitter) AtEnd() bool { return s.eof && s.start == len(s.buf) }

func (s *ListSplitter) take(size, lines int) []byte {
	text := s.buf[s.start:][:size:size]
	s.start, s.Offset, s.Line = s.start+size, s.Offset+size, s.Line+lines
	return text
}

// lineAt returns the line at this offset in the text that was not returned yet, with its line feed.
// It is empty at the end of the file.
func (s *ListSplitter) lineAt(at int) ([]byte, error) {
	for searched := at; ; {
		if i := bytes.IndexByte(s.buf[s.start+searched:], '\n'); i >= 0 {
			return s.buf[s.start+at : s.start+searched+i+1], nil
		}
		if s.eof {
			return s.buf[s.start+at:], nil
		}
		searched = len(s.buf) - s.start
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads more of the file, and discards what was returned.
func (s *ListSplitter) fill() error {
	s.buf = s.buf[:copy(s.buf, s.buf[s.start:])]
	s.start = 0
	if cap(s.buf)-len(s.buf) < bufferSize/2 {
		s.buf = slices.Grow(s.buf, max(bufferSize, len(s.buf)))
	}
	n, err := s.in.Read(s.buf[len(s.buf):cap(s.buf)])
	s.buf = s.buf[:len(s.buf)+n]
	if s.eof = err == io.EOF; s.eof {
		return nil
	}
	return err
}

// startsEntry reports whether a line begins an entry of the list.
func (s *ListSplitter) startsEntry(line []byte) bool {
	rest := bytes.TrimLeft(line, " ")
	return len(line)-len(rest) == s.Indent && (bytes.HasPrefix(rest, []byte("- ")) || string(bytes.TrimRight(rest, "\r\n")) == "-")
}

// isDeeper reports whether a line is indented by more spaces than the list.
func (s *ListSplitter) isDeeper(line []byte) bool {
	return len(line) > s.Indent && len(bytes.TrimLeft(line[:s.Indent+1], " ")) == 0
}

// isBlank reports whether a line has nothing but white space and a comment in it.
func isBlank(line []byte) bool {
	text := bytes.Trim(line, " \t\r\n")
	return len(text) == 0 || text[0] == '#'
}

// TrimComments returns the text of an entry or a field without the comments and empty lines at its
// end, unless they are indented by more than indent spaces.
func TrimComments(text []byte, indent int) []byte {
	for {
		start := bytes.LastIndexByte(bytes.TrimSuffix(text, []byte("\n")), '\n') + 1
		if last := text[start:]; start == 0 || !isBlank(last) || bytes.IndexByte(last, '#') > indent {
			return text
		}
		text = text[:start]
	}
}

// HasUnusualLines reports whether YAML may see other line ends in text than its line feeds, or the
// text is in another encoding than UTF-8.
func HasUnusualLines(text []byte) bool {
	return bytes.Count(text, []byte("\r")) != bytes.Count(text, []byte("\r\n")) || bytes.IndexByte(text, 0) >= 0 ||
		bytes.Contains(text, []byte("\u0085")) || bytes.Contains(text, []byte("\u2028")) || bytes.Contains(text, []byte("\u2029"))
}

// MayHaveAnchor reports whether there may be an anchor in text. It begins a value, so there is no
// letter or digit before it, and no space after it.
func MayHaveAnchor(text []byte) bool {
	isAlphanumeric := func(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
	for at := 0; ; at++ {
		i := bytes.IndexByte(text[at:], '&')
		if i < 0 {
			return false
		}
		at += i
		if at+1 < len(text) && strings.IndexByte(" \t\r\n", text[at+1]) < 0 && (at == 0 || !isAlphanumeric(text[at-1])) {
			return true
		}
	}
}
