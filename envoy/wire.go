package envoy

import (
	"unicode/utf8"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
)

// A message steps through the fields of an encoded message. It is made for messages that are
// as expected: anything else makes it odd, once and for all.
type message struct {
	rest  []byte
	bytes []byte   // of the current field, where it has any
	seen  [16]bool // the fields that [message.once] was asked about
	odd   bool
}

// The wire types that a field of a check request can have, beside its number as in a tag.
const (
	varint = uint64(protowire.VarintType)
	length = uint64(protowire.BytesType)
)

// next moves to the next field and returns its tag; 0 where there is none.
func (m *message) next() uint64 {
	if m.odd || len(m.rest) == 0 {
		return 0
	}
	number, kind, n := protowire.ConsumeTag(m.rest)
	if n < 0 {
		return m.refuse()
	}
	m.rest = m.rest[n:]
	switch kind {
	case protowire.VarintType:
		m.bytes, n = nil, consumedVarint(m.rest)
	case protowire.BytesType:
		m.bytes, n = protowire.ConsumeBytes(m.rest)
	default:
		return m.refuse()
	}
	if n < 0 {
		return m.refuse()
	}
	m.rest = m.rest[n:]
	return protowire.EncodeTag(number, kind)
}

func consumedVarint(b []byte) int {
	_, n := protowire.ConsumeVarint(b)
	return n
}

func (m *message) refuse() uint64 {
	m.odd = true
	return 0
}

// text returns the current field as a string, which must be UTF-8.
func (m *message) text() string {
	if !utf8.Valid(m.bytes) {
		m.odd = true
	}
	return m.raw()
}

func (m *message) raw() string { return unsafe.String(unsafe.SliceData(m.bytes), len(m.bytes)) } //nolint:gosec // part of what was a string

// check takes the answer of what read the current field.
func (m *message) check(ok bool) {
	if !ok {
		m.odd = true
	}
}

// once returns the current field, a message. Where it came before, the two would have to be
// merged.
func (m *message) once(number int) []byte {
	m.check(!m.seen[number])
	m.seen[number] = true
	return m.bytes
}

// maxWireHeaders bounds what is spent on looking for names that came twice.
const maxWireHeaders = 128

// A nameSet tells for most names at a glance that they are not in it.
type nameSet [4]uint64

// addUnique appends f, unless there is one of its name already, or there are very many.
func addUnique(list *[]field, f field, names *nameSet) bool {
	if len(*list) >= maxWireHeaders {
		return false
	}
	if names == nil || names.add(f.Name) {
		for i := range *list {
			if (*list)[i].Name == f.Name {
				return false
			}
		}
	}
	*list = append(*list, f)
	return true
}

// add adds the name and reports whether it may have been there before.
func (s *nameSet) add(name string) bool {
	h := byte(len(name)) //nolint:gosec // any byte will do
	if name != "" {
		h = h*31 + name[0]*7 + name[len(name)-1]*17 + name[len(name)/2]
	}
	bit := uint64(1) << (h & 63)
	was := s[h>>6]&bit != 0
	s[h>>6] |= bit
	return was
}
