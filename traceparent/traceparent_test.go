package traceparent

import (
	"strings"
	"testing"
)

const (
	trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	span  = "00f067aa0ba902b7"
	valid = "00-" + trace + "-" + span + "-01"
)

func TestParse(t *testing.T) {
	is := Parent{TraceID: trace, SpanID: span, Sampled: true}
	not := Parent{TraceID: trace, SpanID: span}
	for header, want := range map[string]Parent{
		valid: is,

		valid[:53] + "00": not, valid[:53] + "02": not, valid[:53] + "03": is, valid[:53] + "ff": is, valid[:53] + "0a": not, valid[:53] + "0b": is,
		"01" + valid[2:]: is, "01" + valid[2:] + "-more": is, // of later versions, what this one has
		"01" + valid[2:] + "more": {}, valid + "-more": {}, "ff" + valid[2:]: {}, "": {}, valid[:35]: {}, valid[:54]: {},
		strings.ToUpper(valid): {}, strings.Replace(valid, trace, strings.Repeat("0", 32), 1): {}, strings.Replace(valid, span, strings.Repeat("0", 16), 1): {},
		strings.Replace(valid, "-", "_", 1): {}, strings.Replace(valid, "36-", "3g-", 1): {}, valid[:53] + "0g": {}, "0g" + valid[2:]: {},
	} {
		if got := Parse(header); got != want {
			t.Errorf("%s is %+v, want %+v", header, got, want)
		}
	}
	var p Parent
	if n := testing.AllocsPerRun(100, func() { p = Parse(valid) }); n != 0 || !p.Sampled {
		t.Errorf("%v allocations", n)
	}
}

// Every header has either a complete parent or none.
func FuzzParse(f *testing.F) {
	f.Add(valid)
	f.Fuzz(func(t *testing.T, header string) {
		p := Parse(header)
		if p == (Parent{}) {
			return
		}
		if len(p.TraceID) != 32 || len(p.SpanID) != 16 || !strings.HasPrefix(header[2:], "-"+p.TraceID+"-"+p.SpanID+"-") {
			t.Errorf("%q is %+v", header, p)
		}
	})
}
