package envoy

import (
	"errors"
	"iter"
	"strings"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"extauthz/check"
)

// ErrMalformed means that a message is not valid protobuf: it is truncated, or has an invalid tag.
var ErrMalformed = errors.New("the check request is not a valid protobuf message")

// A decoder iterates over the fields of an encoded message in any number of buffers. It yields
// length-delimited fields and skips all others, since a check request has no others that are
// used. It does not look at skipped fields, or copy them, so a large body costs nothing.
//
// An error ends all loops over fields. Offsets are from the start of the message.
type decoder struct {
	buffer string // a copy of the current buffer, or of its end; the decoded strings share it
	start  int    // the offset of buffer
	pos    int    // in buffer
	rest   mem.BufferSlice
	err    error
}

func (d *decoder) offset() int { return d.start + d.pos }

// fields yields the number and length of each length-delimited field of a message of n bytes.
// The loop's body reads or skips that length.
func (d *decoder) fields(n int) iter.Seq2[protowire.Number, int] {
	return func(yield func(protowire.Number, int) bool) {
		end := d.offset() + n
		for number, n := d.next(end); number != 0; number, n = d.next(end) {
			if !yield(number, n) {
				return
			}
		}
	}
}

// next advances to the next length-delimited field before end and returns its number and length;
// 0 if there is none. The caller reads or skips that length.
func (d *decoder) next(end int) (number protowire.Number, length int) {
	for d.err == nil && d.offset() < end {
		if number, n := d.shortField(end); number != 0 {
			return number, n
		}
		number, kind := d.tag(end)
		if kind != protowire.BytesType {
			d.skipValue(number, kind, end, protowire.DefaultRecursionLimit)
			continue
		}
		if n := d.length(end); d.err == nil {
			return number, n
		}
	}
	return 0, 0
}

// shortField is next for a field that begins here with a tag and a length of one byte each, as nearly all
// do. Otherwise it returns 0, and does not advance.
func (d *decoder) shortField(end int) (number protowire.Number, length int) {
	if d.pos+2 > len(d.buffer) || d.offset()+2 > end {
		return 0, 0
	}
	tag, n := d.buffer[d.pos], d.buffer[d.pos+1]
	if tag < 0x08 || tag >= 0x80 || protowire.Type(tag&7) != protowire.BytesType || n >= 0x80 || int(n) > end-d.offset()-2 {
		return 0, 0
	}
	d.pos += 2
	return protowire.Number(tag >> 3), int(n)
}

func (d *decoder) tag(end int) (protowire.Number, protowire.Type) {
	number, kind := protowire.DecodeTag(d.varint(end))
	if number < protowire.MinValidNumber {
		d.err = ErrMalformed
	}
	return number, kind
}

// length reads the length of a field that ends before end.
func (d *decoder) length(end int) int {
	n := d.varint(end)
	if n > uint64(end-d.offset()) { //nolint:gosec // never negative
		d.err = ErrMalformed
		return 0
	}
	return int(n) //nolint:gosec // at most end
}

// skipValue skips the value after a tag. depth is how deeply groups may be nested in it.
func (d *decoder) skipValue(number protowire.Number, kind protowire.Type, end, depth int) {
	switch kind {
	case protowire.VarintType:
		d.varint(end)
	case protowire.BytesType:
		d.skip(d.length(end))
	case protowire.Fixed32Type:
		d.skipFixed(4, end)
	case protowire.Fixed64Type:
		d.skipFixed(8, end)
	case protowire.StartGroupType:
		d.skipGroup(number, end, depth)
	default:
		d.err = ErrMalformed
	}
}

// skipGroup skips the fields of a group and its end tag.
func (d *decoder) skipGroup(number protowire.Number, end, depth int) {
	for d.err == nil && depth >= 0 {
		inner, kind := d.tag(end)
		if kind != protowire.EndGroupType {
			d.skipValue(inner, kind, end, depth-1)
			continue
		}
		if inner == number {
			return
		}
		break
	}
	d.err = ErrMalformed
}

func (d *decoder) skipFixed(n, end int) {
	if n > end-d.offset() {
		d.err = ErrMalformed
		return
	}
	d.skip(n)
}

// varint reads a number, which may be encoded in more bytes than necessary.
func (d *decoder) varint(end int) uint64 {
	if d.pos < len(d.buffer) && d.offset() < end && d.buffer[d.pos] < 0x80 {
		d.pos++
		return uint64(d.buffer[d.pos-1])
	}
	return d.longVarint(end)
}

func (d *decoder) longVarint(end int) (v uint64) {
	for shift := 0; shift < 64 && d.offset() < end; shift += 7 {
		d.fill()
		c := d.buffer[d.pos]
		d.pos++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 && (shift < 63 || c <= 1) {
			return v
		}
	}
	d.err = ErrMalformed
	return 0
}

// fill moves to the next buffer if the current one is used up. The offset must be in the message.
func (d *decoder) fill() {
	for d.pos == len(d.buffer) {
		d.start += d.pos
		d.buffer, d.pos = string(d.rest[0].ReadOnlyData()), 0
		d.rest = d.rest[1:]
	}
}

// skip skips n bytes, which must be in the message.
func (d *decoder) skip(n int) {
	if n <= len(d.buffer)-d.pos {
		d.pos += n
		return
	}
	n -= len(d.buffer) - d.pos
	d.start += len(d.buffer)
	for n >= d.rest[0].Len() {
		n -= d.rest[0].Len()
		d.start += d.rest[0].Len()
		if d.rest = d.rest[1:]; len(d.rest) == 0 {
			d.buffer, d.pos = "", 0
			return
		}
	}
	d.start += n
	d.buffer, d.pos = string(d.rest[0].ReadOnlyData()[n:]), 0
	d.rest = d.rest[1:]
}

// text reads n bytes, which must be in the message, as a string. It replaces bytes that are not
// UTF-8 as Envoy does.
func (d *decoder) text(n int) string { return check.CleanUTF8(d.raw(n)) }

func (d *decoder) raw(n int) string {
	if n <= len(d.buffer)-d.pos {
		d.pos += n
		return d.buffer[d.pos-n : d.pos]
	}
	var b strings.Builder
	b.Grow(n)
	for n > 0 {
		d.fill()
		part := d.buffer[d.pos:min(d.pos+n, len(d.buffer))]
		b.WriteString(part)
		d.pos += len(part)
		n -= len(part)
	}
	return b.String()
}
