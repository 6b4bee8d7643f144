// Package traceparent reads the header of that name, which says what trace a request belongs to
// (W3C Trace Context).
package traceparent

import "strings"

// A Parent is the span that made a request. The zero value is none.
type Parent struct {
	TraceID string // 32 lower-case hexadecimal digits, not all of them 0
	SpanID  string // 16
	Sampled bool   // the trace is recorded
}

// Parse returns what a traceparent says, or the zero Parent if it is invalid. It allocates nothing.
func Parse(header string) Parent {
	if len(header) < 55 || header[2] != '-' || header[35] != '-' || header[52] != '-' || header[:2] == "ff" {
		return Parent{}
	}
	if len(header) > 55 && (header[:2] == "00" || header[55] != '-') { // later versions may have more fields
		return Parent{}
	}
	p := Parent{TraceID: header[3:35], SpanID: header[36:52]}
	if !isHex(header[:2]) || !isID(p.TraceID) || !isID(p.SpanID) || !isHex(header[53:55]) {
		return Parent{}
	}
	p.Sampled = digit(header[54])&1 == 1
	return p
}

func isID(s string) bool { return isHex(s) && strings.Trim(s, "0") != "" }

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// digit returns the value of a hexadecimal digit.
func digit(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}
