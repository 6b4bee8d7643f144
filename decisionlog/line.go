package decisionlog

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/ratelimit"
)

// Version is the version of the lines. A version may gain fields; removing a field or changing its
// meaning makes a new version.
const Version = 1

// The limits on the length of a line, in bytes and numbers.
const (
	maxText   = 1024 // of an error or a requirement
	maxLimits = 16
)

const (
	lineStart    = `{"version":1,"type":"decision","time":"`
	droppedStart = `{"version":1,"type":"dropped","time":"`
)

// appendDecision appends the line of a decision. It allocates nothing if b has room.
func appendDecision(b []byte, o *check.Observation, now time.Time, trace, from, share string) []byte {
	d := &o.Decision
	b = append(b, lineStart...)
	b = appendTime(b, now)
	b = append(b, `","code":"`...)
	b = append(b, d.Code.String()...)
	b = append(b, `","allowed":`...)
	b = strconv.AppendBool(b, d.Code.Allowed() || o.LetThrough)
	b = appendTrue(b, `,"dry_run":`, o.LetThrough)
	b = appendKey(b, d)
	if o.ClientAddr.IsValid() {
		b = appendAddr(b, `,"client_address":`, o.ClientAddr)
	}
	b = appendText(b, `,"client_address_from":`, o.AddrFrom)
	b = appendError(b, `,"client_address_error":`, o.AddrErr)
	b = appendText(b, `,"peer":`, o.Peer)
	b = appendText(b, `,"request_id":`, o.RequestID)
	b = appendText(b, `,"trace_id":`, trace)
	b = appendText(b, `,"trace_id_from":`, from)
	b = appendText(b, `,"method":`, o.Method)
	b = appendText(b, `,"host":`, o.Host)
	b = appendText(b, `,"path":`, o.Path)
	b = appendText(b, `,"permissions":`, cut(o.Permissions))
	b = appendText(b, `,"ratelimits":`, cut(o.Ratelimits))
	b = appendError(b, `,"route_error":`, o.RouteErr)
	if d.Limits != nil {
		b = appendLimits(b, d.Limits.Limits)
	}
	b = appendError(b, `,"error":`, o.Err)
	b = append(b, `,"duration_ns":`...)
	b = strconv.AppendInt(b, o.Duration.Nanoseconds(), 10)
	b = append(b, `,"share":`...)
	b = append(b, share...)
	return append(b, "}\n"...)
}

// appendKey appends the fields about the key, if one was found.
func appendKey(b []byte, d *authz.Decision) []byte {
	if d.Key == nil {
		return b
	}
	b = appendText(b, `,"key_id":`, d.Key.ID)
	b = appendText(b, `,"owner":`, d.Key.ExternalID)
	b = append(b, `,"stale":`...)
	b = strconv.AppendBool(b, d.Stale)
	b = appendTrue(b, `,"would_refuse":`, d.WouldRefuse)
	return appendTrue(b, `,"previous_secret":`, d.PreviousSecret)
}

func appendLimits(b []byte, limits []ratelimit.Status) []byte {
	b = append(b, `,"limits":[`...)
	for i := range limits[:min(len(limits), maxLimits)] {
		l := &limits[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"name":`...)
		b = appendString(b, cut(l.Name))
		b = append(b, `,"cost":`...)
		b = strconv.AppendInt(b, l.Cost, 10)
		b = append(b, `,"limit":`...)
		b = strconv.AppendInt(b, l.Limit, 10)
		b = append(b, `,"remaining":`...)
		b = strconv.AppendInt(b, l.Remaining, 10)
		b = append(b, `,"duration_ns":`...)
		b = strconv.AppendInt(b, l.Duration.Nanoseconds(), 10)
		b = append(b, `,"wait_ns":`...)
		b = strconv.AppendInt(b, l.Wait.Nanoseconds(), 10)
		b = append(b, '}')
	}
	return append(b, ']')
}

// appendDropped appends the line about the decisions that were dropped between two times.
func appendDropped(b []byte, n uint64, since, now time.Time) []byte {
	b = append(b, droppedStart...)
	b = appendTime(b, now)
	b = append(b, `","since":"`...)
	b = appendTime(b, since)
	b = append(b, `","dropped":`...)
	b = strconv.AppendUint(b, n, 10)
	return append(b, "}\n"...)
}

// The functions below append a field: its name as it appears in a line, such as `,"peer":`, and a
// value. They omit a field without a value.

func appendTrue(b []byte, name string, value bool) []byte {
	if value {
		b = append(append(b, name...), "true"...)
	}
	return b
}

func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(append(b, name...), value)
}

func appendError(b []byte, name string, err error) []byte {
	if err == nil {
		return b
	}
	return appendText(b, name, cut(err.Error()))
}

func appendAddr(b []byte, name string, addr netip.Addr) []byte {
	b = append(append(b, name...), '"')
	b = addr.AppendTo(b)
	return append(b, '"')
}

// cut truncates s, so that lines stay short.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
