package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// stream reads a file with Parts. It returns the keys of the valid parts, their number, the end of the
// last of them, and the error after it.
func stream(t *testing.T, in io.Reader) (keys []*keystore.Key, parts, end int, err error) {
	t.Helper()
	for p, err := range Parts("k", in) {
		if err != nil {
			return keys, parts, end, err
		}
		if p.End <= end {
			t.Errorf("a part ends at %d, after one that ended at %d", p.End, end)
		}
		keys, parts, end = append(keys, p.Keys...), parts+1, p.End
	}
	return keys, parts, end, nil
}

// readAtOnce reads a file as one.
func readAtOnce(text []byte) ([]*keystore.Key, strictyaml.Errors) {
	f := parseAtOnce(text)
	return f.keys(), allErrors([]parsedFile{f})
}

// streams compares the parts of a file with the file at once. It returns the number of keys in valid
// parts, and the error after them.
func streams(t *testing.T, text []byte) (int, error) {
	t.Helper()
	got, _, end, err := stream(t, bytes.NewReader(text))
	want, wrong := readAtOnce(text)
	switch {
	case (err == nil) != (len(wrong) == 0):
		t.Errorf("in parts: %.300v\nat once: %.300v", err, wrong)
	case err == nil && end != len(text):
		t.Errorf("the last part ends at %d of %d", end, len(text))
	case err == nil && !same(got, want):
		t.Errorf("%d keys in parts are not the %d at once", len(got), len(want))
	case err == nil:
		return len(got), nil
	}
	// The keys before an error are the same as in a file that ends there.
	if before, errs := readAtOnce(text[:end]); end > 0 && (len(errs) > 0 || !same(got, before)) {
		t.Errorf("%d keys before the mistake, where the file has %d (%.300v)", len(got), len(before), errs)
	}
	errs, _ := errors.AsType[strictyaml.Errors](err)
	for _, e := range errs {
		if len(want) > 0 && !slices.ContainsFunc(wrong, func(w *strictyaml.Error) bool { return w.Line == e.Line && w.Column == e.Column }) {
			t.Errorf("at once, nothing is wrong where this is: %v", e)
		}
	}
	return len(got), err
}

func same(a, b []*keystore.Key) bool {
	return slices.EqualFunc(a, b, func(a, b *keystore.Key) bool { return reflect.DeepEqual(a, b) }) //nolint:govet // no error is in it
}

// many returns the text of a file of n keys, which has at least four parts.
func many(t testing.TB, n int) string {
	t.Helper()
	return inParts(t, string(generate(n)))
}

func inParts(t testing.TB, text string) string {
	t.Helper()
	if n := chunksOf(t, []byte(text)); n < 4 {
		t.Fatalf("%d parts", n)
	}
	return text
}

func TestPartsStream(t *testing.T) {
	const n = 2000
	text := many(t, n)
	keys, parts, end, err := stream(t, strings.NewReader(text))
	if err != nil || len(keys) != n || end != len(text) || parts < 10 {
		t.Fatalf("%d keys in %d parts up to %d of %d, %v", len(keys), parts, end, len(text), err)
	}
	for name, reader := range map[string]func(io.Reader) io.Reader{
		"bytes alone": iotest.OneByteReader, "half": iotest.HalfReader, "the end with data": iotest.DataErrReader,
	} {
		if again, _, _, err := stream(t, reader(strings.NewReader(text))); err != nil || !same(keys, again) {
			t.Errorf("%s: %d keys, %v", name, len(again), err)
		}
	}
	for range Parts("k", strings.NewReader(text)) {
		break // it is not called again
	}
}

// replaceKey replaces a key's first line.
func replaceKey(text string, key int, with string) string {
	return strings.Replace(text, fmt.Sprintf("  - id: key_%06d\n", key), with, 1)
}

// A file that cannot be divided further is read at once from there on, with the same result.
func TestPartsUndivided(t *testing.T) {
	text := many(t, 1000)
	shared := strings.ReplaceAll(text, "name: Customer 8", "permissions: *p\n    name: Customer 8")
	define := func(key int, name string) string {
		return fmt.Sprintf("  - id: key_%06d\n    roles: &p [%s]\n", key, name)
	}
	use := replaceKey(text, 850, "  - id: key_000850\n    roles: *p\n")
	for name, text := range map[string]string{
		"empty":                    "keys: []\n",
		"small":                    string(generate(3)),
		"no end of line":           strings.TrimSuffix(text, "\n"),
		"a comment after it":       text + "# the end\n",
		"a mark after it":          text + "...\n# * the end *\n",
		"much after it":            text + "...\n" + strings.Repeat("# the end\n", 10_000),
		"much before it":           strings.Repeat("# the start\n", 10_000) + text,
		"an anchor before it":      "--- &all\n" + text,
		"carriage returns":         strings.ReplaceAll(text, "\n", "\r\n"),
		"a carriage return":        replaceKey(text, 850, "  - id: key_000850\r    external_id: a\n"),
		"carriage returns alone":   strings.ReplaceAll(text, "\n", "\r"),
		"an unusual line end":      replaceKey(text, 850, "  - id: key_000850 # \u2028  \n"),
		"a byte order mark":        "\ufeff" + text,
		"a directive":              "%YAML 1.1\n---\n" + text,
		"brackets":                 "{keys: [\n" + flow(1000) + "]}",
		"brackets on one line":     "{keys: [" + strings.ReplaceAll(flow(1000), "\n", "") + "]}",
		"two lines":                replaceKey(text, 850, "  - id: key_000850\n    external_id: \"a\n  - b\"\n"),
		"an anchor far before":     replaceKey(shared, 0, define(0, "first")),
		"several anchors":          replaceKey(replaceKey(replaceKey(shared, 0, define(0, "first")), 300, define(300, "second")), 950, define(950, "third")),
		"one alias":                replaceKey(use, 3, define(3, "first")),
		"one alias to the last":    replaceKey(replaceKey(use, 3, define(3, "first")), 500, define(500, "second")),
		"what looks like an alias": strings.ReplaceAll(text, "Customer 8", "R&D *1 \"&\" & Co"),
		"not indented":             strings.ReplaceAll(strings.ReplaceAll(text, "\n    ", "\n  "), "\n  - ", "\n- "),
	} {
		if n, err := streams(t, []byte(text)); err != nil || n == 0 && name != "empty" {
			t.Errorf("%s: %d keys, %.300v", name, n, err)
		}
	}
}

// As in strictyaml.
const (
	bufferSize   = 256 << 10
	chunkEntries = 16
)

// flow returns a list of keys in the form that needs no lines.
func flow(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{id: key_%06d, hash: %s},\n", i, keystore.Secret(fmt.Sprint(i)).Hash())
	}
	return b.String()
}

// Errors have their places, and the keys before them were read.
func TestPartsWrong(t *testing.T) {
	const n, key = 800, 700
	text := many(t, n)
	line := 3 + 4*key // of its id
	hash := func(i int) string { return keystore.Secret(fmt.Sprint(i)).Hash().String() }
	for name, c := range map[string]struct{ text, want string }{
		"an unknown field":    {replaceKey(text, key, "  - id: key_000700\n    nam: a\n"), fmt.Sprintf("k:%d:5: unknown field \"nam\": did you mean name?", line+1)},
		"an id twice":         {replaceKey(text, key, "  - id: key_000007\n"), fmt.Sprintf("k:%d:9: id \"key_000007\" is also that of the key at k:%d:9: give each key its own id", line, 3+4*7)},
		"a hash twice":        {strings.Replace(text, hash(key), hash(7), 1), fmt.Sprintf("k:%d:11: this hash is also that of the key at k:%d:11: a secret belongs to one key", line+2, 5+4*7)},
		"an id in another":    {replaceKey(text, key, "  - id: \"key_000\\\n  - 000\"\n"), fmt.Sprintf("k:%d:9: id: ", line)},
		"an open quote":       {replaceKey(text, key, "  - id: \"key_000700\n"), "k:"},
		"bad indentation":     {replaceKey(text, key, "  - id: key_000700\n   name: a\n"), fmt.Sprintf("k:%d:4: not YAML: this line does not fit under the one before: check its indentation", line+1)},
		"no such anchor":      {replaceKey(text, key, "  - id: *key\n"), "k:"},
		"an item outside":     {replaceKey(text, key, " - id: key_000700\n"), fmt.Sprintf("k:%d:2: not YAML: ", line)},
		"a control mark":      {replaceKey(text, key, "  - id: key_000700\x00\n"), fmt.Sprintf("k:%d:", line)},
		"a second document":   {replaceKey(text, key, "---\n"), "k:"},
		"a second list":       {replaceKey(text, key, "keys:\n  - id: key_000700\n"), fmt.Sprintf("k:%d:1: field \"keys\" appears twice: keep one of them", line)},
		"another field":       {"kies: []\n" + text, "k:1:1: unknown field \"kies\": did you mean keys?"},
		"another after it":    {text + "kies: []\n", fmt.Sprintf("k:%d:1: unknown field \"kies\": did you mean keys?", 3+4*n)},
		"an alias after it":   {replaceKey(text, key, "  - id: key_000700\n    meta: &m a\n") + "more: *m\n", fmt.Sprintf("k:%d:1: unknown field \"more\"", 4+4*n)},
		"text right after it": {text + " on\n", "k:"},
		"after an anchor":     {replaceKey(replaceKey(text, key, "  - id: key 000700\n    roles: *m\n"), 9, "  - id: key_000009\n    roles: &m [a]\n"), fmt.Sprintf("k:%d:9: id: ", line+1)},
	} {
		read, err := streams(t, []byte(c.text))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %.300v\nwant %s", name, err, c.want)
		}
		switch {
		case strings.HasSuffix(name, "after it"):
		case read > key:
			t.Errorf("%s: %d keys were read before it", name, read)
		case name != "another field" && read < key-9*chunkEntries:
			t.Errorf("%s: only %d keys were read before it", name, read)
		}
	}
}

// The reader never reads far beyond the yielded keys.
func TestPartsReadAhead(t *testing.T) {
	text := many(t, 10_000)
	read := 0
	in := io.TeeReader(strings.NewReader(text), writer(func(b []byte) { read += len(b) }))
	for p, err := range Parts("k", in) {
		if ahead := read - p.End; err != nil || ahead > 3*bufferSize {
			t.Fatalf("%d bytes were read for the parts up to %d: %v", read, p.End, err)
		}
	}
	if read != len(text) || read < 6*bufferSize {
		t.Errorf("%d bytes of %d were read", read, len(text))
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// An error of the reader is returned, and the file does not count as a shorter one.
func TestPartsUnreadable(t *testing.T) {
	text := many(t, 2000)
	before, _, _ := strings.Cut(text, "  - id: key_001500\n")
	for name, text := range map[string]string{
		"at once": "", "small": string(generate(3)), "in the list": before, "where it cannot be divided": "{" + text, "after it": text + "...\n",
	} {
		keys, _, end, err := stream(t, io.MultiReader(strings.NewReader(text), iotest.ErrReader(errors.New("disk on fire"))))
		if err == nil || err.Error() != "k: cannot be read: disk on fire" {
			t.Errorf("%s: %v", name, err)
		}
		if end == len(text) && end > 0 || end > 0 != (len(keys) > 0) {
			t.Errorf("%s: %d keys up to %d of %d", name, len(keys), end, len(text))
		}
	}
}

func FuzzPartsStream(f *testing.F) {
	for _, text := range []string{
		"  - id: a\n    enabled: false\n", "  - id: a\n    meta: \"a\n  - id: b\"\n", "other: x\n", "...\n", "---\n", "  - {id: a, meta: &a b, hash: " + hashA + "}\n", "  - {id: b, hash: " + hashB + ", meta: *a}\n",
		"  - id: key_000001\n", "    name: a\rb\n", " b\n", "\x00", "  # c\n", "%TAG ! x\n", "  - meta: |\n", "\"", "'\n",
	} {
		f.Add(text, uint16(7), "", uint16(0))
		f.Add(text, uint16(190), "  - {id: c, hash: "+hashC+", roles: &a [b]}\n", uint16(30))
	}
	few := "# a comment\nkeys:\n"
	for line := range strings.Lines(flow(400)) {
		few += "  - " + strings.TrimSuffix(line, ",\n") + "\n"
	}
	base := strings.SplitAfter(inParts(f, few), "\n")
	f.Fuzz(func(t *testing.T, one string, i uint16, two string, j uint16) {
		text := slices.Insert(slices.Clone(base), int(i)%len(base), one)
		text = slices.Insert(text, int(j)%len(base), two)
		_, _ = streams(t, []byte(strings.Join(text, "")))
	})
}
