package check

import (
	"strings"
	"unicode/utf8"
)

const maxRequestID = 128 // bytes of x-request-id in the body

// AppendBody appends the body of the refusal.
func (o *Outcome) AppendBody(b []byte) []byte {
	if o.bareBody {
		return append(b, o.Code.String()...)
	}
	b = append(b, `{"meta":{"requestId":`...)
	b = appendJSONString(b, o.requestID)
	b = append(b, `},"data":{"valid":false,"code":"`...)
	b = append(b, o.Code.String()...)
	b = append(b, '"')
	if o.KeyID != "" && refusals[refusalCode(o.Code)].keyID {
		b = append(b, `,"keyId":`...)
		b = appendJSONString(b, o.KeyID)
	}
	return append(b, "}}"...)
}

// appendJSONString appends s as a JSON string (RFC 8259 section 7).
func appendJSONString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case c == utf8.RuneError && n == 1:
			b = append(b, `\ufffd`...)
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return append(b, '"')
}

// isGRPC reports whether a content-type is a gRPC caller's: application/grpc, by itself or
// followed by a subtype or parameters. gRPC-Web is not.
func isGRPC(contentType string) bool {
	const prefix = "application/grpc"
	n := len(prefix)
	return len(contentType) >= n && equalFold(contentType[:n], prefix) &&
		(len(contentType) == n || strings.IndexByte("+; \t", contentType[n]) >= 0)
}
