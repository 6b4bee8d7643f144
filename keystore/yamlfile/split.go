package yamlfile

import (
	"bytes"
	"hash/maphash"
	"io"
	"slices"

	"gopkg.in/yaml.v3"

	"extauthz/strictyaml"
)

const (
	splitFrom  = 64 << 10  // files of fewer bytes are read whole, as are those with more around the list
	readSize   = 256 << 10 // how much of a file is read at once
	chunkItems = 64        // about as many keys are read at once
)

// A part is a text within a file.
type part struct {
	text []byte
	line int // how many lines of the file stand before it
}

// A splitter cuts the text of a key file, as it is read, into what stands before the list of
// keys, parts of some keys each, and what is left after the list.
//
// A tree of all the nodes of a large file takes far more memory than its keys do. Each cut is
// before a line that begins with a dash at the list's own indentation. Of the texts that YAML
// lets run over several lines, only those in quotes or brackets could have such a line within
// them, and then the part before it would not be YAML. Whoever reads the parts has to see to
// that, to [hasOddLines], and to what is around the list by [isFrame]; then they are read as
// the whole would be.
type splitter struct {
	in   io.Reader
	buf  []byte // what was read
	from int    // where in buf begins what was not handed out yet
	end  bool   // all was read
	line int    // how many lines were handed out
	read int    // how many bytes were

	indent int // of the list's dashes
}

func newSplitter(in io.Reader) *splitter {
	return &splitter{in: in, buf: make([]byte, 0, readSize)}
}

// head returns what stands before the list, or nil where the text is small or no list begins
// near its start.
func (s *splitter) head() ([]byte, error) {
	for !s.end && len(s.buf) < splitFrom {
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
	if len(s.buf) < splitFrom {
		return nil, nil
	}
	below, line := false, 0
	for at := 0; at < splitFrom; line++ {
		text, err := s.lineAt(at)
		if err != nil || len(text) == 0 {
			return nil, err
		}
		body := bytes.Trim(text, blanks)
		switch {
		case below && isItem(bytes.TrimLeft(text, " ")):
			s.indent = len(text) - len(bytes.TrimLeft(text, " "))
			return s.take(at, line).text, nil
		case bytes.HasPrefix(body, []byte("%")), below && !isBlank(body):
			return nil, nil // a directive changes how all that follows is read
		case bytes.HasPrefix(text, []byte("keys:")):
			below = isBlank(bytes.Trim(text[len("keys:"):], blanks))
		}
		at += len(text)
	}
	return nil, nil
}

// next returns the next part of the list; one without text where the list has ended. The text
// is that until the next call.
func (s *splitter) next() (part, error) {
	at, item, line, items := 0, 0, 0, 0 // at is where the line begins, item where its item does
	for ; ; line++ {
		text, err := s.lineAt(at)
		if err != nil {
			return part{}, err
		}
		if s.isDeeper(text) || len(text) > 0 && isBlank(bytes.Trim(text, blanks)) {
			at += len(text)
			continue
		}
		column := len(text) - len(bytes.TrimLeft(text, " "))
		if len(text) == 0 || column < s.indent || !isItem(text[column:]) {
			return s.take(at, line), nil // the list ends before this line
		}
		// A part ends by what its last item is, so that a change moves no other part's ends.
		if items > 0 && (items >= 8*chunkItems || maphash.Bytes(seed, s.buf[s.from+item:s.from+at])%chunkItems == 0) {
			return s.take(at, line), nil
		}
		item = at
		items++
		at += len(text)
	}
}

// done reports whether all was handed out.
func (s *splitter) done() bool { return s.end && s.from == len(s.buf) }

// left returns a reader of all that was not handed out.
func (s *splitter) left() io.Reader {
	buffered := bytes.NewReader(s.buf[s.from:])
	if s.end {
		return buffered
	}
	return io.MultiReader(buffered, s.in)
}

// isDeeper reports whether a line belongs to the item before it, by its indentation.
func (s *splitter) isDeeper(line []byte) bool {
	if len(line) <= s.indent {
		return false
	}
	for _, c := range line[:s.indent+1] {
		if c != ' ' {
			return false
		}
	}
	return true
}

// take hands out so many bytes, which are so many lines.
func (s *splitter) take(size, lines int) part {
	p := part{s.buf[s.from : s.from+size : s.from+size], s.line}
	s.from += size
	s.read += size
	s.line += lines
	return p
}

// lineAt returns the line that begins so many bytes after what was handed out, with its end;
// none at the end of the text.
func (s *splitter) lineAt(at int) ([]byte, error) {
	for seen := at; ; {
		if i := bytes.IndexByte(s.buf[s.from+seen:], '\n'); i >= 0 {
			return s.buf[s.from+at : s.from+seen+i+1], nil
		}
		if s.end {
			return s.buf[s.from+at:], nil
		}
		seen = len(s.buf) - s.from
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads on.
func (s *splitter) fill() error {
	s.buf = s.buf[:copy(s.buf, s.buf[s.from:])]
	s.from = 0
	if cap(s.buf)-len(s.buf) < readSize/2 {
		s.buf = slices.Grow(s.buf, max(readSize, len(s.buf)))
	}
	n, err := s.in.Read(s.buf[len(s.buf):cap(s.buf)])
	s.buf = s.buf[:len(s.buf)+n]
	if s.end = err == io.EOF; s.end {
		return nil
	}
	return err
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

// isFrame reports whether the list of keys of a file is the one that begins after head, and
// nothing is wrong with the file until there.
func isFrame(head []byte, indent int) bool {
	if hasOddLines(head) {
		return false
	}
	text := slices.Concat(head, bytes.Repeat([]byte(" "), indent), []byte("- ~\n"))
	r := newReader(&strictyaml.Decoder{}, len(text))
	fits := false
	if root := r.d.Parse(text); root != nil {
		r.root(root, func(list *yaml.Node) {
			fits = list.Kind == yaml.SequenceNode && list.Style&yaml.FlowStyle == 0 && list.Anchor == "" &&
				len(list.Content) == 1 && list.Content[0].Line == bytes.Count(head, []byte("\n"))+1 && list.Content[0].Value == "~"
		})
	}
	return fits && len(r.d.Errors) == 0
}
