package yamlfile

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

func TestFullKey(t *testing.T) {
	s, _ := open(t, `# What a key file can say.
keys:
  - id: key_acme_prod
    name: Acme, production            # optional
    hash: LCa0a2j/xo/5m0U8HTBBNBNCLXBkg7+g+YpeiGJm564=
    ip_whitelist: [192.168.1.100, 10.0.0.0/8, "2001:db8::/32", 2001:db8:1::1, fe80::]
    enabled: false
    expires: 2027-01-31T01:00:00+01:00
    external_id: acme
    permissions: &p [documents.read]
    roles: *p
    ratelimits: [{name: requests, limit: 100, duration: 1m}, {name: exports, limit: 5, duration: 1h, auto_apply: false}]
    meta: {plan: pro, seats: 0x10, share: .5, big: 12345678901234567890, exp: 1e3, none: ~, "on": yes, at: 2027-01-31, list: [&n {a: b}, *n], text: "<\u2028\u00e9"}
  - {id: "0", hash: `+hashB+`}
`, Options{})
	prefix := netip.MustParsePrefix
	want := &keystore.Key{
		ID: "key_acme_prod", Name: "Acme, production",
		Whitelist: keystore.NewWhitelist([]netip.Prefix{
			prefix("192.168.1.100/32"), prefix("10.0.0.0/8"), prefix("2001:db8::/32"), prefix("2001:db8:1::1/128"), prefix("fe80::/128"),
		}),
		Expires: time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC), ExternalID: "acme",
		Permissions: []string{"documents.read"}, Roles: []string{"documents.read"},
		Ratelimits: []keystore.Ratelimit{
			{Name: "requests", Limit: 100, Duration: time.Minute},
			{Name: "exports", Limit: 5, Duration: time.Hour, OnDemand: true},
		},
		Meta: []byte(`{"plan":"pro","seats":16,"share":0.5,"big":12345678901234567890,"exp":1e3,"none":null,"on":"yes","at":"2027-01-31","list":[{"a":"b"},{"a":"b"}],"text":"<\u2028é"}`),
	}
	want.Hash, _ = keystore.ParseHash(hashA)
	got, err := s.Lookup(t.Context(), want.Hash)
	if err != nil || !reflect.DeepEqual(got, want) { //nolint:govet // no error is in it
		t.Errorf("got %+v, error %v\nwant %+v\nmeta %s\nwant %s", got, err, want, got.Meta, want.Meta)
	}
	bare, err := s.Key(t.Context(), "0")
	if err != nil || !bare.Enabled || bare.Whitelist.Restricted() || !bare.Expires.IsZero() || bare.Meta != nil {
		t.Errorf("got %+v, error %v", bare, err)
	}
}

func TestHashOfDigits(t *testing.T) {
	for _, hash := range []string{strings.Repeat("1", 64), "1e" + strings.Repeat("5", 62), strings.Repeat("0", 63) + "7"} {
		s, _ := open(t, "keys:\n  - id: a\n    hash: "+hash+"\n", Options{})
		if k, err := s.Key(t.Context(), "a"); err != nil || k.Hash.String() != hash {
			t.Errorf("%s: got %v, error %v", hash, k, err)
		}
	}
}

// A few aliases can expand to more text than fits any memory.
func TestAliasBombs(t *testing.T) {
	var meta strings.Builder
	meta.WriteString("keys:\n- id: a\n  hash: " + hashA + "\n  meta:\n    a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n")
	for i := range 30 {
		fmt.Fprintf(&meta, "    a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}
	_, err := parseText(meta.String())
	if err == nil || !strings.Contains(err.Error(), "the aliases in this file expand to far more text than the file has") {
		t.Errorf("got %v", err)
	}

	// Ten thousand keys share one list of as many entries.
	var list strings.Builder
	list.WriteString("keys:\n- id: a\n  hash: " + hashA + "\n  ip_whitelist: &w\n")
	for i := range 10000 {
		fmt.Fprintf(&list, "  - 10.0.%d.%d\n", i/256, i%256)
	}
	for i := range 10000 {
		fmt.Fprintf(&list, "- {id: k%d, hash: %s, ip_whitelist: *w}\n", i, keystore.Secret(fmt.Sprint(i)).Hash())
	}
	set, err := parseText(list.String())
	if err != nil || set.len() != 10001 {
		t.Errorf("got error %.200v", err)
	}
}

// generate returns a file of n keys with three ranges each.
func generate(n int) []byte {
	var b bytes.Buffer
	b.WriteString("# generated\nkeys:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - id: key_%06d\n    name: Customer %d\n    hash: %s\n    ip_whitelist: [10.%d.%d.0/24, 192.0.2.%d, \"2001:db8:%x::/48\"]\n",
			i, i, keystore.Secret(fmt.Sprint(i)).Hash(), i>>8&255, i&255, i&255, i&0xffff)
	}
	return b.Bytes()
}

// parseText returns the keys in the text of one file named k.
func parseText(text string) (*snapshot, error) {
	f, err := parseFirst("k", strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	return newSnapshot([]parsedFile{f}, &snapshot{}, noThrottle)
}

// parseAtOnce parses the text of a file named k without dividing it.
func parseAtOnce(text []byte) parsedFile {
	f := parsedFile{path: "k"}
	p := parser{split: strictyaml.NewListSplitter(bytes.NewReader(text), "keys")}
	_ = p.rest(nil, 0, func(c placedChunk) bool { f.chunks = append(f.chunks, c); return true })
	return f
}

// outcome returns the result of parsing a text, as text.
func outcome(t testing.TB, data []byte, inParts bool) string {
	t.Helper()
	f := parseAtOnce(data)
	if inParts {
		var err error
		f, err = parseFirst("k", bytes.NewReader(data))
		must(t, err)
	}
	set, err := newSnapshot([]parsedFile{f}, &snapshot{}, noThrottle)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%v\n%d\n", set.warnings, set.len())
	for _, c := range f.chunks {
		for _, r := range c.records {
			fmt.Fprintf(&b, "id on line %d, hash on line %d: %s", int(r.idAt.line)+c.line, int(r.hashAt.line)+c.line, formatKey(set.find(r.key.Hash), ""))
		}
	}
	return b.String()
}

// A large file with all kinds of changes has the same result in chunks and at once.
func TestParts(t *testing.T) {
	base := generate(300)
	if n := chunksOf(t, base); n < 4 {
		t.Fatal(n)
	}
	if outcome(t, base, true) != outcome(t, base, false) {
		t.Fatal("the valid file has another result in chunks")
	}
	texts := []string{
		"", "\n", "# comment\n", "  # - id: x\n", "    enabled: false\n", "    bad: x\n", "  - id: key_000001\n", "- x\n", "  -\n", "  - \n",
		"    meta: \"a\n  - b\"\n", "    meta: \"a\n  - b\n", "    meta: [a,\n  - b]\n", "    meta: |\n      x\n      - y\n\n", "    meta: |+\n      x\n\n\n",
		"    meta: >\n  - x\n", "    meta: a\n  - b\n", "---\n", "...\n", "\t\n", "    meta: &x a\n", "    meta: *x\n", "keys: []\n", "other: *x\n", "%TAG ! x\n", "    name: it's\n",
		"    meta: 'a\n  - id: b'\n", "   - id: z\n", " - id: z\n", "    ip_whitelist: [10.0.0.1/8]\n", "    expires: 2020-01-01T00:00:00Z\n", "    ? a\n    : b\n", "    meta: \u2028\n",
	}
	r := rand.New(rand.NewPCG(1, 2))
	lines := bytes.SplitAfter(base, []byte("\n"))
	for range 30 {
		var data []byte
		at := r.IntN(len(lines))
		drop := at + r.IntN(3)
		for i, line := range lines {
			if i == at || i == drop {
				data = append(data, texts[r.IntN(len(texts))]...)
			}
			if i >= at && i < drop && r.IntN(2) == 0 {
				continue
			}
			data = append(data, line...)
		}
		if got, want := outcome(t, data, true), outcome(t, data, false); got != want {
			t.Fatalf("another result in chunks, around line %d:\n%s\n--- in chunks\n%.600s\n--- at once\n%.600s", at+1, bytes.Join(lines[max(0, at-3):at+3], nil), got, want)
		}
	}
}

// How much text aliases may add depends on the size of the file, not of their chunk.
func TestAliasesInChunks(t *testing.T) {
	meta := "    meta: {a: &a " + strings.Repeat("x", 6<<10) + ", b: [" + strings.Repeat("*a, ", 100) + "]}\n"
	data := bytes.Replace(generate(900), []byte("    name: Customer 10\n"), []byte(meta), 1)
	if got := outcome(t, data, true); got != outcome(t, data, false) || !strings.HasPrefix(got, "\n900\n") {
		t.Errorf("got %.300s", got)
	}
}

func chunksOf(t testing.TB, data []byte) int {
	t.Helper()
	f, err := parseFirst("k", bytes.NewReader(data))
	must(t, err)
	return len(f.chunks)
}

// A reload keeps the records of other chunks.
func TestChunksAreKept(t *testing.T) {
	s, path := open(t, string(generate(2000)), Options{})
	before := s.current.Load()
	text := strings.Replace(string(generate(2000)), "keys:\n", "\n# moved\nkeys:\n  - {id: new, hash: "+hashA+"}\n", 1)
	text = strings.Replace(text, "name: Customer 1000\n", "name: Changed\n", 1)
	write(t, path, text)
	must(t, s.Reload())
	after := s.current.Load()
	same := 0
	for h, k := range after.all() {
		if before.find(h) == k {
			same++
		}
	}
	if same < 500 || same == 2000 || s.Len() != 2001 || before.len() != 2000 {
		t.Errorf("%d of %d keys are the same", same, s.Len())
	}
	// Places are right in chunks that moved.
	write(t, path, text+"  - {id: key_001999, hash: "+hashB+"}\n")
	want := path + ":8006:10: id \"key_001999\" is also that of the key at " + path + ":8002:9: give each key its own id"
	if err := s.Reload(); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// A reload has the same result as opening the file.
func TestReloadIsAsOpen(t *testing.T) {
	base := bytes.SplitAfter(generate(320), []byte("\n"))
	texts := []string{
		"", "", "", "    enabled: false\n", "  # a comment\n", "  - {id: new, hash: " + hashA + "}\n", "  - {id: other, hash: " + hashA + "}\n",
		"    expires: 2020-01-01T00:00:00Z\n", "    bad: x\n", "    meta: \"a\n  - b\"\n", "  - id: key_000001\n",
	}
	small := []string{"keys: []\n", "keys:\n  - {id: small, hash: " + hashB + "}\n", "keys:\n  - {id: small, hash: " + hashB + ", enabled: false}\n"}
	r := rand.New(rand.NewPCG(3, 4))
	now := &snapshot{}
	valid, failed, kept := 0, 0, 0
	for range 80 {
		from := r.IntN(len(base)) / 4 * 4 // some keys are left out
		to := min(len(base), from+4*r.IntN(30))
		at := r.IntN(len(base))
		var data []byte
		for i, line := range base {
			if i == at {
				data = append(data, texts[r.IntN(len(texts))]...)
			}
			if i < 2 || i < from || i >= to {
				data = append(data, line...)
			}
		}
		texts := []string{string(data), small[r.IntN(len(small))]}
		parse := func(known map[[32]byte]*chunk) []parsedFile {
			var all []parsedFile
			for i, text := range texts {
				f, err := parseFile(fmt.Sprint(i), strings.NewReader(text), known, noThrottle)
				must(t, err)
				all = append(all, f)
			}
			return all
		}
		next, err := newSnapshot(parse(now.chunks), now, noThrottle)
		fresh, freshErr := newSnapshot(parse(nil), &snapshot{}, noThrottle)
		if fmt.Sprint(err) != fmt.Sprint(freshErr) {
			t.Fatalf("got %v\nwant %v", err, freshErr)
		}
		if err != nil {
			failed++
			continue
		}
		if got, want := written(next), written(fresh); got != want {
			t.Fatalf("got\n%.600s\nwant\n%.600s", got, want)
		}
		for h, k := range next.all() {
			if now.find(h) == k {
				kept++
			}
		}
		valid++
		now = next
	}
	if valid < 30 || failed < 5 || kept < 100*valid {
		t.Errorf("%d valid texts, %d others, %d keys kept: too few", valid, failed, kept)
	}
}

// A warning has its new place when its chunk has moved, and the keys are the same.
func TestWarningsMove(t *testing.T) {
	text := strings.Replace(string(generate(800)), "name: Customer 500\n", "expires: 2020-01-01T00:00:00Z\n", 1)
	s, path := open(t, text, Options{})
	for moved := range 3 {
		want := fmt.Sprintf("%s:%d:14: this key has expired already", path, moved+2+4*500+2)
		if got := fmt.Sprint(s.Warnings()); got != want || s.Len() != 800 {
			t.Errorf("%d keys, got %v\nwant %s", s.Len(), got, want)
		}
		if _, err := s.Lookup(t.Context(), keystore.Secret("500").Hash()); err != nil {
			t.Error(err)
		}
		text = "# moved\n" + text
		write(t, path, text)
		must(t, s.Reload())
	}
}

// A file whose copy appears holds each key twice.
func TestCopiedFile(t *testing.T) {
	for name, text := range map[string]string{"small": "#\n" + keys("a"), "large": string(generate(800))} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "a.yaml"), text)
		s, err := Open(dir, Options{})
		must(t, err)
		write(t, filepath.Join(dir, "b.yaml"), text)
		if err := s.Reload(); err == nil || !strings.Contains(err.Error(), "b.yaml:3:9: id ") {
			t.Errorf("%s: %.200v", name, err)
		}
		must(t, os.Remove(filepath.Join(dir, "b.yaml")))
		must(t, s.Reload())
	}
}

// written returns everything in a snapshot, as text.
func written(s *snapshot) string {
	var b strings.Builder
	fmt.Fprintln(&b, s.len(), s.warnings)
	for _, h := range sortedHashes(s) {
		b.WriteString(formatKey(s.find(h), ""))
	}
	for _, shard := range s.ids.maps {
		fmt.Fprintln(&b, slices.Sorted(maps.Keys(shard)))
	}
	return b.String()
}

// BenchmarkOpen measures opening a file of 100,000 keys, then a reload after a change of one key, and
// the memory of the process.
func BenchmarkOpen(b *testing.B) {
	path := b.TempDir() + "/keys.yaml"
	text := generate(100_000)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		start := time.Now()
		s, err := Open(path, Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/open")
		if err := os.WriteFile(path, bytes.Replace(text, []byte("Customer 5\n"), []byte("Changed 5\n"), 1), 0o600); err != nil {
			b.Fatal(err)
		}
		start = time.Now()
		if err := s.Reload(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/reload")
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/1e6, "MB-heap")
		status, _ := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(status)) {
			var kb float64
			if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kb); n == 1 {
				b.ReportMetric(kb/1e3, "MB-peak-RSS")
			}
			if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kb); n == 1 {
				b.ReportMetric(kb/1e3, "MB-RSS")
			}
		}
		runtime.KeepAlive(s)
	}
}

func FuzzParts(f *testing.F) {
	f.Add("    enabled: false\n", uint16(7))
	f.Add("    meta: \"a\n  - id: b\"\n", uint16(300))
	f.Add("other: x\n", uint16(1900))
	base := bytes.SplitAfter(generate(400), []byte("\n"))
	f.Fuzz(func(t *testing.T, text string, at uint16) {
		i := int(at) % len(base)
		data := bytes.Join(append(append(append([][]byte{}, base[:i]...), []byte(text)), base[i:]...), nil)
		if got, want := outcome(t, data, true), outcome(t, data, false); got != want {
			t.Errorf("read otherwise in parts\n--- in parts\n%.600s\n--- whole\n%.600s", got, want)
		}
	})
}

// FuzzKeyFile: keys that are read, written and read again are the same, and nothing panics.
func FuzzKeyFile(f *testing.F) {
	for _, seed := range []string{
		"keys: []\n",
		"keys:\n  - id: key_a\n    hash: " + hashA + "\n    ip_whitelist: [10.0.0.0/8, \"2001:db8::/32\"]\n    meta: {plan: pro, n: [1, ~, yes, .5, \"\\u2028\"]}\n",
		"keys:\n- id: \"yes\"\n  name: \"a: b #c\\u0085\"\n  hash: !!str " + hashB + "\n  expires: 2027-01-31T00:00:00.5Z\n  external_id: \"~\"\n  enabled: false\n",
		"keys: [{id: a, hash: " + hashC + ", roles: [\"*\"], permissions: [a/b], ratelimits: [{name: \"1\", limit: 1, duration: 90s, auto_apply: false}]}]",
		"keys: &a [*a]\n", "keys: {<<: *x}\n", "- a\n", "\xff\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, err := parseText(text)
		if err != nil {
			return
		}
		var b strings.Builder
		b.WriteString("keys: []\n")
		if first.len() > 0 {
			b.Reset()
			b.WriteString("keys:\n")
		}
		for _, h := range sortedHashes(first) {
			item, err := MarshalKey(first.find(h))
			if err != nil {
				t.Fatal(err)
			}
			b.Write(item)
		}
		second, err := parseText(b.String())
		if err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		if second.len() != first.len() {
			t.Fatalf("%d keys of %d", second.len(), first.len())
		}
		for h, k := range first.all() {
			if !reflect.DeepEqual(second.find(h), k) { //nolint:govet // no error is in it
				t.Errorf("got %+v\nwant %+v\n%s", second.find(h), k, b.String())
			}
		}
	})
}
