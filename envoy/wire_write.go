package envoy

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"extauthz/authz"
)

// appendResponse appends the reply as an encoded CheckResponse: what [reply.response] returns,
// written without it.
func (r *reply) appendResponse(b []byte) []byte {
	b, start := begin(b, 1) // status: there even where it is OK
	if !r.allows() {
		b = appendNumber(b, 1, uint64(refusals[r.code].rpc))
	}
	b = end(b, start)
	switch {
	case r.allows():
		b = r.appendOK(b)
	case r.code == authz.Unavailable:
		b = r.appendRefusal(b, 5) // error_response
	default:
		b = r.appendRefusal(b, 2) // denied_response
	}
	b, start = begin(b, 4) // dynamic_metadata
	for _, f := range r.metadataFields() {
		if f.value != "" {
			b = appendMetadata(b, f)
		}
	}
	return end(b, start)
}

func (r *reply) appendOK(b []byte) []byte {
	b, start := begin(b, 3) // ok_response
	b = appendHeaders(b, r.headers)
	for _, name := range r.remove {
		b = appendText(b, 5, name)
	}
	for _, h := range r.onResponse {
		b = appendHeader(b, 6, h, overwrite)
	}
	for _, name := range r.dropQuery {
		b = appendText(b, 8, name)
	}
	return end(b, start)
}

func (r *reply) appendRefusal(b []byte, number protowire.Number) []byte {
	b, start := begin(b, number)
	b, status := begin(b, 1)
	b = end(appendNumber(b, 1, uint64(r.httpStatus())), status) //nolint:gosec // 400 to 599
	b = appendHeaders(b, r.headers)
	b, body := begin(b, 3)
	b = end(r.appendBody(b), body)
	return end(b, start)
}

// appendHeaders appends the fields headers, number 2 in both kinds of response.
func appendHeaders(b []byte, headers []field) []byte {
	for _, h := range headers {
		b = appendHeader(b, 2, h, 0)
	}
	return b
}

// overwrite is the append_action OVERWRITE_IF_EXISTS_OR_ADD.
const overwrite = uint64(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)

// appendHeader appends a HeaderValueOption with an append_action; 0 leaves it out.
func appendHeader(b []byte, number protowire.Number, h field, action uint64) []byte {
	b, option := begin(b, number)
	b, header := begin(b, 1)
	b = appendText(b, 1, h.name)
	b = end(appendText(b, 2, h.value), header)
	if action != 0 {
		b = appendNumber(b, 3, action)
	}
	return end(b, option)
}

// appendMetadata appends one entry of a Struct's fields.
func appendMetadata(b []byte, f field) []byte {
	b, entry := begin(b, 1)
	b = appendText(b, 1, f.name)
	b, value := begin(b, 2)
	b = appendText(b, 3, f.value)
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
