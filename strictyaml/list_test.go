package strictyaml

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// split returns a file divided at its chunks, or, with entries set, at its entries.
func split(t *testing.T, in io.Reader, entries bool) (head string, parts []string, rest string, ok bool) {
	t.Helper()
	s := NewListSplitter(in, "keys")
	text, ok, err := s.Head(1000)
	if err != nil {
		t.Fatal(err)
	}
	head = string(text)
	for last := !ok; !last; {
		next := s.Chunk
		if entries {
			next = s.Entry
		}
		if text, last, err = next(); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, string(text))
	}
	all := head + strings.Join(parts, "")
	if s.Offset != len(all) || s.Line != strings.Count(all, "\n") && strings.HasSuffix(all, "\n") {
		t.Errorf("at line %d, offset %d after %q", s.Line, s.Offset, all)
	}
	left, err := io.ReadAll(s.Rest())
	if err != nil || s.AtEnd() != (len(left) == 0) && !ok {
		t.Errorf("error %v, at end %t before %q", err, s.AtEnd(), left)
	}
	return head, parts, string(left), ok
}

func TestListSplitter(t *testing.T) {
	for _, test := range []struct{ head, entries, rest string }{
		{"keys:\n", "- a\n|- b: c\n  d: e\n|-\n  f", ""},
		{"# c\n---\n\n\"keys\" : # d\n  # - e\n", "  - a\n  # b\n\n|  - c\n # d\n", ""},
		{"'keys':\r\n", "  - a\r\n|  -\r\n    b\r\n", ""},
		{"keys:\n", "- a\n", "...\n- b\n"},
		{"keys:\n", "  - a\n", "- b\n"},
		{"keys:\n", "  - a\n", "other: b\n"},
		{"keys:\n", "  - a\n", "  -b\n"},
		{"", "", ""},
		{"", "", "keys: []\n"},
		{"", "", "keys:\n"},
		{"", "", "keys:\n  a: b\n"},
		{"", "", "keys: &x\n- a\n"},
		{"", "", "other:\n- a\n"},
		{"", "", "other: a\nkeys:\n- a\n"},
		{"", "", "---\n---\nkeys:\n- a\n"},
		{"", "", "%YAML 1.1\n---\nkeys:\n- a\n"},
		{"", "", "\ufeffkeys:\n- a\n"},
		{"", "", "keys:\n\"keys\":\n- a\n"},
		{"", "", "# " + strings.Repeat("-", 1000) + "\nkeys:\n- a\n"},
	} {
		text := test.head + strings.ReplaceAll(test.entries, "|", "") + test.rest
		for name, in := range map[string]io.Reader{"at once": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text))} {
			head, entries, rest, ok := split(t, in, true)
			if head != test.head || strings.Join(entries, "|") != test.entries || rest != test.rest || ok != (test.head != "") {
				t.Errorf("%s, %q\n got: %q %q %q %t", name, text, head, entries, rest, ok)
			}
		}
	}
}

// A change of one entry leaves most chunks as they are.
func TestChunksOfChangedList(t *testing.T) {
	var b strings.Builder
	b.WriteString("keys:\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "  - id: key_%d\n", i)
	}
	_, before, _, _ := split(t, strings.NewReader(b.String()), false)
	_, after, _, _ := split(t, strings.NewReader(strings.Replace(b.String(), "key_2500\n", "another\n    name: a\n", 1)), false)
	known := make(map[string]bool)
	for _, c := range before {
		known[c] = true
	}
	changed := 0
	for _, c := range after {
		if !known[c] {
			changed++
		}
	}
	if len(before) < 160 || len(before) > 800 || changed > 2 || strings.Join(before, "") != b.String()[len("keys:\n"):] {
		t.Errorf("%d of %d chunks changed", changed, len(after))
	}
}

func TestTrimComments(t *testing.T) {
	for text, want := range map[string]string{
		"  - a\n":                       "  - a\n",
		"  - a\n\n# b\n  # c\n":         "  - a\n",
		"  - a\n    # b\n\n":            "  - a\n    # b\n",
		"  - a # b\r\n\r\n":             "  - a # b\r\n",
		"  - a\n\n    b":                "  - a\n\n    b",
		"  - a\n   # deeper\n  # not\n": "  - a\n   # deeper\n",
		"# only\n# comments\n":          "# only\n",
	} {
		if got := TrimComments([]byte(text), 2); string(got) != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Text that can have no anchor need not be kept for what aliases refer to.
func TestMayHaveAnchor(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "&": false, "a: b": false, "name: R&D": false, "name: Smith & Sons": false, "name: Smith &\n": false,
		"a: &x b": true, "[&x b]": true, "{\"a\":&x b}": true, "- &x\n": true, "&x": true, "R&D & Co &x": true, "a: R&D\nb: &x y": true,
	} {
		if got := MayHaveAnchor([]byte(text)); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

func TestHasUnusualLines(t *testing.T) {
	for text, want := range map[string]bool{"a\nb\r\n": false, "ü": false, "a\rb": true, "a\x00": true, "\u0085": true, "\u2028": true, "\u2029": true} {
		if got := HasUnusualLines([]byte(text)); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

func TestFormatJSON(t *testing.T) {
	for json, want := range map[string]string{
		`{"plan":"pro","no":[1.50,null,"null",-1e5]}`: `{plan: pro, "no": [1.50, null, "null", -1e5]}`,
		` { "a b" : "\ud83d\ude00\/", "c:d": "\"" } `: `{a b: "😀/", "c:d": "\""}`,
		`"2001:db8::/32"`: `"2001:db8::/32"`,
		`"10.0.0.0/8"`:    `10.0.0.0/8`,
		`"yes"`:           `"yes"`,
		`""`:              `""`,
	} {
		got := FormatJSON([]byte(json))
		if got != want {
			t.Errorf("%s: %s, want %s", json, got, want)
		}
		var d Decoder
		budget := 0
		again := d.JSON("f", d.Parse([]byte(got)), &budget)
		if d.Err() != nil || FormatJSON(again) != want || bytes.ContainsAny(again, "\n") {
			t.Errorf("%s is read as %s, error %v", got, again, d.Err())
		}
	}
}
