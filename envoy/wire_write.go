package envoy

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"extauthz/check"
)

// appendResponse appends the outcome as an encoded CheckResponse: the encoding of what [response]
// returns.
func appendResponse(b []byte, o *check.Outcome) []byte {
	b, start := begin(b, 1) // status: present even if it is OK
	if !o.Allowed() {
		b = appendNumber(b, 1, uint64(rpcCode(o.Code)))
	}
	b = end(b, start)
	switch {
	case o.Allowed():
		b = appendOK(b, o)
	case o.IsError():
		b = appendRefusal(b, 5, o) // error_response
	default:
		b = appendRefusal(b, 2, o) // denied_response
	}
	b, start = begin(b, 4) // dynamic_metadata
	for _, f := range o.Metadata() {
		if f.Value != "" {
			b = appendMetadata(b, f)
		}
	}
	return end(b, start)
}

func appendOK(b []byte, o *check.Outcome) []byte {
	b, start := begin(b, 3) // ok_response
	b = appendHeaders(b, o.SetHeaders)
	if o.Path != "" {
		b = appendHeader(b, 2, field{Name: pathHeader, Value: o.Path}, 0)
	}
	for _, name := range o.RemoveHeaders {
		b = appendText(b, 5, name)
	}
	for _, h := range o.ResponseHeaders {
		b = appendHeader(b, 6, h, overwrite)
	}
	if o.Path == "" {
		for _, name := range o.RemoveQuery {
			b = appendText(b, 8, name)
		}
	}
	return end(b, start)
}

func appendRefusal(b []byte, number protowire.Number, o *check.Outcome) []byte {
	b, start := begin(b, number)
	b, status := begin(b, 1)
	b = end(appendNumber(b, 1, uint64(o.Status())), status) //nolint:gosec // 400 to 599
	b = appendHeaders(b, o.ResponseHeaders)
	b, body := begin(b, 3)
	b = end(o.AppendBody(b), body)
	return end(b, start)
}

// appendHeaders appends the fields headers, whose number is 2 in both kinds of response.
func appendHeaders(b []byte, headers []field) []byte {
	for _, h := range headers {
		b = appendHeader(b, 2, h, 0)
	}
	return b
}

// overwrite is the append_action OVERWRITE_IF_EXISTS_OR_ADD.
const overwrite = uint64(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)

// appendHeader appends a HeaderValueOption with an append_action; 0 omits it.
func appendHeader(b []byte, number protowire.Number, h field, action uint64) []byte {
	b, option := begin(b, number)
	b, header := begin(b, 1)
	b = appendText(b, 1, h.Name)
	b = end(appendText(b, 2, h.Value), header)
	if action != 0 {
		b = appendNumber(b, 3, action)
	}
	return end(b, option)
}

// appendMetadata appends one entry of a Struct's fields.
func appendMetadata(b []byte, f field) []byte {
	b, entry := begin(b, 1)
	b = appendText(b, 1, f.Name)
	b, value := begin(b, 2)
	b = appendText(b, 3, f.Value)
	return end(end(b, value), entry)
}

func appendText(b []byte, number protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), s)
}

func appendNumber(b []byte, number protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), n)
}

// begin starts a field with a length, which is known at its [end].
func begin(b []byte, number protowire.Number) ([]byte, int) {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	return b, len(b)
}

func end(b []byte, start int) []byte {
	var size [10]byte
	return slices.Insert(b, start, protowire.AppendVarint(size[:0], uint64(len(b)-start))...) //nolint:gosec // never negative
}
