package envoy

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// This file implements naively what the package does fast.

// A used describes the part of a field that a decision uses: all of it, as bytes or as text;
// some fields of a message; or only its presence.
type used struct {
	bytes, text bool
	fields      map[protowire.Number]used
}

var (
	asText     = used{text: true}
	isThere    = used{fields: map[protowire.Number]used{}}
	usedEntry  = used{fields: map[protowire.Number]used{1: asText, 2: asText}}
	usedHeader = used{fields: map[protowire.Number]used{1: asText, 2: asText, 3: {bytes: true}}}
	usedHTTP   = used{fields: map[protowire.Number]used{
		1: asText, 2: asText, 3: usedEntry, 4: asText, 5: asText, 6: asText, 13: {fields: map[protowire.Number]used{1: usedHeader}},
	}}
	usedAddress = used{fields: map[protowire.Number]used{1: {fields: map[protowire.Number]used{2: asText}}, 2: isThere, 3: isThere}}
	usedFields  = used{fields: map[protowire.Number]used{1: {fields: map[protowire.Number]used{
		1: {fields: map[protowire.Number]used{1: usedAddress}}, 4: {fields: map[protowire.Number]used{2: usedHTTP}}, 10: usedEntry,
	}}}}
)

// onlyUsed encodes a message again with only the parts that a decision uses, cleaned. It fails if
// the message, or a used message in it, is malformed.
func onlyUsed(b []byte, u used) (out []byte, err error) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		size := protowire.ConsumeFieldValue(number, kind, b[n:])
		if size < 0 {
			return nil, protowire.ParseError(size)
		}
		if field, ok := u.fields[number]; ok && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(b[n:])
			switch {
			case field.text:
				value = naiveClean(value)
			case field.fields != nil && len(field.fields) == 0:
				value = nil
			case field.fields != nil:
				if value, err = onlyUsed(value, field); err != nil {
					return nil, err
				}
			}
			out = protowire.AppendBytes(protowire.AppendTag(out, number, kind), value)
		}
		b = b[n+size:]
	}
	return out, nil
}

// naiveClean puts a "!" for every byte that is part of no character.
func naiveClean(b []byte) (clean []byte) {
	for len(b) > 0 {
		n := 1
		for n <= len(b) && n <= utf8.UTFMax && (!utf8.Valid(b[:n]) || utf8.RuneCount(b[:n]) != 1) {
			n++
		}
		if n > len(b) || n > utf8.UTFMax {
			clean, b = append(clean, '!'), b[1:]
		} else {
			clean, b = append(clean, b[:n]...), b[n:]
		}
	}
	return clean
}
