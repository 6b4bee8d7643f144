package ratelimit

import (
	"strconv"
	"strings"
	"time"
)

// A Header is an HTTP field of a response.
type Header struct{ Name, Value string }

// A HeaderStyle is the form in which limits are reported to callers. The zero value is the common
// one, with X-RateLimit fields.
type HeaderStyle uint8

// The styles.
const (
	XRateLimit HeaderStyle = iota // x-ratelimit-limit, -remaining, -reset of the tightest limit
	IETF                          // ratelimit-policy, ratelimit: draft-ietf-httpapi-ratelimit-headers-10
)

// headerStyles holds the styles' names and fields.
var headerStyles = [...]struct {
	name   string
	fields []field
}{
	XRateLimit: {"x-ratelimit", []field{
		{"x-ratelimit-limit", ofTightest(func(s Status) int64 { return s.Limit })},
		{"x-ratelimit-remaining", ofTightest(func(s Status) int64 { return s.Remaining })},
		{"x-ratelimit-reset", ofTightest(func(s Status) int64 { return seconds(s.Reset) })},
		{"retry-after", retryAfter},
	}},
	IETF: {"ietf", []field{
		{"ratelimit-policy", ofEach(func(s Status) string {
			return ";q=" + integer(s.Limit) + ";w=" + integer(max(seconds(s.Duration), 1))
		})},
		{"ratelimit", ofEach(func(s Status) string {
			if s.Next == 0 {
				return ";r=" + integer(s.Remaining)
			}
			return ";r=" + integer(s.Remaining) + ";t=" + integer(seconds(s.Next))
		})},
		{"retry-after", retryAfter},
	}},
}

// A field is one header. It is omitted if its value is empty.
type field struct {
	name  string
	value func(Result) string
}

// ParseHeaderStyle returns the style with this name: x-ratelimit or ietf.
func ParseHeaderStyle(name string) (HeaderStyle, bool) {
	for i, s := range headerStyles {
		if s.name == name {
			return HeaderStyle(i), true
		}
	}
	return XRateLimit, false
}

// String returns the style's name.
func (s HeaderStyle) String() string { return headerStyles[s].name }

// Headers returns the fields of the response to a request with this result, with lower-case names,
// or none if no limit applies. All times are whole seconds, rounded up. Retry-After (RFC 9110
// section 10.2.3), which is at least 1, is set only if the request was refused.
func (s HeaderStyle) Headers(r Result) []Header {
	if len(r.Limits) == 0 {
		return nil
	}
	fields := headerStyles[s].fields
	headers := make([]Header, 0, len(fields))
	for _, f := range fields {
		if v := f.value(r); v != "" {
			headers = append(headers, Header{f.name, v})
		}
	}
	return headers
}

func ofTightest(number func(Status) int64) func(Result) string {
	return func(r Result) string {
		s, _ := r.Tightest()
		return integer(number(s))
	}
}

// ofEach returns a list (RFC 9651 section 3.1) of the names of the limits with their parameters.
// The names contain no characters that need an escape.
func ofEach(parameters func(Status) string) func(Result) string {
	return func(r Result) string {
		items := make([]string, len(r.Limits))
		for i, s := range r.Limits {
			items[i] = `"` + s.Name + `"` + parameters(s)
		}
		return strings.Join(items, ", ")
	}
}

func retryAfter(r Result) string {
	if !r.Limited() {
		return ""
	}
	return integer(max(seconds(r.RetryAfter()), 1))
}

// maxInteger is the largest integer of a structured field (RFC 9651 section 3.3.1).
const maxInteger = 999_999_999_999_999

func integer(n int64) string { return strconv.FormatInt(min(n, maxInteger), 10) }

// seconds returns d in seconds, rounded up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
