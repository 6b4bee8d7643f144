package decisionlog

import (
	"sync/atomic"
	"time"
)

const secondLayout = "2006-01-02T15:04:05."

// A second is a time without its fraction, as formatted in lines.
type second struct {
	unix int64
	text string
}

// lastSecond is that of the last line, since the next line usually has the same.
var lastSecond atomic.Pointer[second]

// appendTime appends a time in UTC with microseconds.
func appendTime(b []byte, t time.Time) []byte {
	s := lastSecond.Load()
	if unix := t.Unix(); s == nil || s.unix != unix {
		s = &second{unix, t.UTC().Format(secondLayout)}
		lastSecond.Store(s)
	}
	b = append(b, s.text...)
	b = append(b, "000000Z"...)
	micros := t.Nanosecond() / int(time.Microsecond)
	for i := len(b) - 2; micros > 0; i-- {
		b[i] += byte(micros % 10)
		micros /= 10
	}
	return b
}
