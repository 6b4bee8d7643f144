package yamlfile

import (
	"bytes"
	"crypto/sha256"
	"io"
	"strings"
)

// A divider reads a key file in parts, each once, and from where that would not tell what
// reading the whole does, all that is left as one. So what was read of a part stays: what a
// part means never depends on what comes after it, but for the last, which is held back until
// that is known.
type divider struct {
	path  string
	text  *splitter
	known chunks // need not be read again
	head  [sha256.Size]byte

	now, after []byte // two parts' texts

	// What stands for the parts so far where the rest is read whole. It is what was before the
	// list, and of the parts those that an alias may refer to; the others are empty lines.
	before []byte
	lines  int // how many empty lines come after before
	keys   int // how many keys are in before
}

// run yields what is in the file, in order, until yield returns false. Its error is about
// reading alone.
func (d *divider) run(yield func(placed) bool) error {
	head, err := d.text.head()
	if err != nil {
		return err
	}
	d.before = bytes.Clone(head)
	if head == nil || !isFrame(d.before, d.text.indent) {
		return d.whole(nil, yield)
	}
	d.head = sha256.Sum256(head)
	now, err := d.next()
	for err == nil && len(now.text) > 0 {
		after, err := d.next()
		if err != nil {
			return err
		}
		id := chunkID{sum: sha256.Sum256(now.text)}
		c := d.known.find(id, d.path, now.line)
		if c == nil {
			c = readPart(d.path, now)
		}
		if c == nil || len(after.text) == 0 && !d.text.done() {
			return d.whole(bytes.Join([][]byte{now.text, after.text}, nil), yield)
		}
		if !yield(placed{c, id, now.line, d.text.read - len(after.text)}) {
			return nil
		}
		d.pass(now, after.line-now.line, len(c.records))
		now = after
	}
	return err
}

// next returns the next part. Its text stays until the next but one.
func (d *divider) next() (part, error) {
	p, err := d.text.next()
	d.now, d.after = d.after, append(d.now[:0], p.text...)
	p.text = d.after
	return p, err
}

// pass leaves a part of so many lines and keys behind.
func (d *divider) pass(p part, lines, keys int) {
	if !mayAnchor(p.text) {
		d.lines += lines
		return
	}
	d.before = append(d.before, bytes.Repeat([]byte("\n"), d.lines)...)
	d.before = append(d.before, p.text...)
	d.lines = 0
	d.keys += keys
}

// whole yields all that is left, from unread on, as one.
func (d *divider) whole(unread []byte, yield func(placed) bool) error {
	end := d.text.read - len(unread)
	left, err := io.ReadAll(d.text.left())
	if err != nil {
		return err
	}
	end += len(unread) + len(left)
	text := bytes.Join([][]byte{d.before, bytes.Repeat([]byte("\n"), d.lines), unread, left}, nil)
	id := chunkID{sha256.Sum256(text), true, d.keys}
	c := d.known.find(id, d.path, 0)
	if c == nil {
		c = readWhole(d.path, text, d.keys)
	}
	yield(placed{c, id, 0, end})
	return nil
}

// mayAnchor reports whether there may be an anchor in the text of a part. It begins a value, so
// there is no letter before it, nor a space after it.
func mayAnchor(text []byte) bool {
	for at := 0; ; at++ {
		i := bytes.IndexByte(text[at:], '&')
		if i < 0 {
			return false
		}
		at += i
		if at+1 < len(text) && strings.IndexByte(blanks, text[at+1]) < 0 && (at == 0 || !isAlphanumeric(text[at-1])) {
			return true
		}
	}
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
