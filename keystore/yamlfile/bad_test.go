package yamlfile

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"extauthz/strictyaml"
)

var update = flag.Bool("update", false, "write testdata/bad/errors.txt")

// Each file in testdata/bad contains one mistake. errors.txt contains all errors and warnings.
func TestBadFiles(t *testing.T) {
	paths, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	var got strings.Builder
	for _, path := range paths {
		_, err := Open(path, Options{})
		if err == nil {
			t.Errorf("%s was accepted", path)
			continue
		}
		if _, ok := errors.AsType[strictyaml.Errors](err); !ok {
			t.Errorf("%s: the error is a %T", path, err)
		}
		got.WriteString(strings.ReplaceAll(err.Error(), "testdata/bad/", "") + "\n")
	}
	const golden = "testdata/bad/errors.txt"
	if *update {
		write(t, golden, got.String())
	}
	if want := content(t, golden); got.String() != want {
		t.Errorf("other errors than %s has:\n%s", golden, diff(want, got.String()))
	}
}

// diff returns the lines that only one of two texts has.
func diff(want, got string) string {
	var b strings.Builder
	for _, side := range []struct{ sign, text, other string }{{"-", want, got}, {"+", got, want}} {
		for line := range strings.Lines(side.text) {
			if !strings.Contains("\n"+side.other, "\n"+line) {
				b.WriteString(side.sign + line)
			}
		}
	}
	return b.String()
}

const (
	hashA = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
	hashB = "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9"
	hashC = "baa5a0964d3320fbc0c6a922140453c8513ea24ab8fd0577034804a967248096"
)

func TestLimits(t *testing.T) {
	for limits, want := range map[string]string{
		"[{name: a, limit: 100, duration: 1m}, {name: b, limit: 1, duration: 8784h, auto_apply: false}]": "",
		"[]":                                     "",
		"{name: a}":                              "k:4:15: a mapping where a list is expected: write `[a, b]`, or a `- ` line for each",
		"[{name: a}]":                            "k:4:16: a rate limit without limit: write it as {name: requests, limit: 100, duration: 1m}\nk:4:16: a rate limit without duration: write it as {name: requests, limit: 100, duration: 1m}",
		"[{name: a b, limit: 0, duration: 1ms}]": "k:4:23: name: \"a b\" has a character other than letters, digits and . _ - : in it\nk:4:35: limit: 0: write at least 1\nk:4:48: duration: 1ms: write one from 1s to 8784h",
		"[{name: a, limit: 1, duration: 1s}, {name: a, limit: 1, duration: 1s}]": "k:4:58: name: \"a\" appears twice: give each limit its own name",
		"[{name: a, limit: many, duration: 1s}]":                                 "k:4:33: \"many\" where a whole number is expected: write one such as 100",
		"[{name: a, limit: 1, period: 1s}]":                                      "k:4:36: unknown field \"period\": the fields here are auto_apply, duration, limit, name",
		"[{name: a, limit: 1, duration: 1s, auto_apply: maybe}]":                 "k:4:62: \"maybe\" where true or false is expected: write one of them",
		"[]\n  permissions: [a b, '', 1]\n  roles: [\"a\", \"?\"]": "k:5:17: permissions: \"a b\" has a character other than letters, digits and . _ - : * / in it\n" +
			"k:5:22: permissions: an empty name: write one such as documents.read\nk:5:26: 1 is a number, not text: write it in quotes, \"1\"\n" +
			"k:6:16: roles: \"?\" has a character other than letters, digits and . _ - : * / in it",
	} {
		text := "keys:\n- id: a\n  hash: " + hashA + "\n  ratelimits: " + limits + "\n"
		_, err := parseText(text)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s\n got: %s\nwant: %s", limits, got, want)
		}
	}
}

func TestDuplicatesAcrossFiles(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yml")
	write(t, a, "keys:\n- id: key_a\n  hash: "+hashA+"\n")
	write(t, b, "keys:\n- hash: "+hashA+"\n  id: key_b\n- id: key_a\n  hash: "+hashB+"\n- id: key_b\n")
	_, err := Open(dir, Options{})
	want := b + ":2:9: this hash is also that of the key \"key_a\" at " + a + ":3:9: a secret belongs to one key\n" +
		b + ":4:7: id \"key_a\" is also that of the key at " + a + ":2:7: give each key its own id\n" +
		b + ":6:3: a key without a hash: write the SHA-256 of its secret, as `extauthz key hash` prints it\n" +
		b + ":6:7: id \"key_b\" is also that of the key at " + b + ":3:7: give each key its own id"
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestPathErrors(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "sub", "link.yaml")
	if err := os.Mkdir(filepath.Dir(link), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "there is no such file",
		dir:                             "no *.yaml or *.yml file in this folder",
		filepath.Dir(link):              "link.yaml: there is no such file",
		os.DevNull:                      "it is a device: name a file",
	} {
		if path == filepath.Dir(link) {
			if err := os.Symlink("nowhere", link); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	s, path := open(t, `keys:
- id: key_a
  hash: `+hashA+`
  expires: 2020-01-01T00:00:00Z
  ip_whitelist: [0.0.0.0/0, "::/0", 10.0.0.1, "2001:db8::1"]
- id: key_b
  hash: `+hashB+`
  ip_whitelist: [10.0.0.7, 10.0.0.0/8, 192.0.2.1, "::ffff:192.0.2.1", 11.0.0.0/8]
- id: key_c
  hash: `+hashC+`
  ip_whitelist: [0.0.0.0/0]
`, Options{})
	want := `P:4:12: this key has expired already
P:5:18: 0.0.0.0/0 lets every IPv4 address in: omit ip_whitelist if the key may be used from anywhere
P:5:29: ::/0 lets every IPv6 address in: omit ip_whitelist if the key may be used from anywhere
P:5:37: 10.0.0.1 is within 0.0.0.0/0, which is in the list too: keep one of them
P:5:47: 2001:db8::1 is within ::/0, which is in the list too: keep one of them
P:8:18: 10.0.0.7 is within 10.0.0.0/8, which is in the list too: keep one of them
P:8:51: 192.0.2.1 appears twice: keep one of them
P:11:17: every IPv4 address is allowed, and no IPv6 address: add ::/0, or omit ip_whitelist, if the key may be used from anywhere`
	if got := strings.ReplaceAll(s.Warnings().Error(), path, "P"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if s.Len() != 3 {
		t.Errorf("%d keys", s.Len())
	}
}
