package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A list of trusted proxies can name files of ranges. Errors in them have their own file and line.
func TestRangeFiles(t *testing.T) {
	dir := t.TempDir()
	file, cdn := filepath.Join(dir, "extauthz.yaml"), filepath.Join(dir, "cdn.txt")
	put := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(file, "client_address:\n  from: x_forwarded_for\n  trusted_proxies: [192.0.2.7, {file: cdn.txt}, 10.0.0.0/8]\nstore: {yaml: {path: keys.yaml}}\n")
	put(cdn, "# of 2026-01-31\n198.51.100.0/24\r\n\n  2001:db8::/32 # the second\n203.0.113.7")
	c, err := Load(file, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	var want []netip.Prefix
	for _, s := range []string{"192.0.2.7/32", "198.51.100.0/24", "2001:db8::/32", "203.0.113.7/32", "10.0.0.0/8"} {
		want = append(want, netip.MustParsePrefix(s))
	}
	if !slices.Equal(c.ClientAddress.TrustedProxies, want) {
		t.Errorf("trusted proxies are %v, want %v", c.ClientAddress.TrustedProxies, want)
	}
	if !slices.Equal(c.Files, []string{file, cdn}) {
		t.Errorf("the files are %q", c.Files)
	}

	for text, want := range map[string][]string{
		"":                                  {file + ":3:32: the file cdn.txt contains no ranges"},
		"# none\n":                          {file + ":3:32: the file cdn.txt contains no ranges"},
		"10.0.0.0/8\n  10.1.2.3/8\nproxy\n": {cdn + ":2:3: ", "did you mean 10.0.0.0/8", cdn + ":3:1: "},
		"10.0.0.0/8, 10.1.0.0/16\n":         {cdn + ":1:1: "},
		strings.Repeat("x\n", 10_000):       {cdn + ":100:1: "},
	} {
		put(cdn, text)
		c, err := Load(file, Overrides{})
		if err == nil || len(err.Error()) > 100<<10 {
			t.Fatalf("%.100q: %v", text, err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%.100q: %.1000v\nwant %s", text, err, w)
			}
		}
		if !slices.Equal(c.Files, []string{file, cdn}) {
			t.Errorf("the files are %q", c.Files)
		}
	}

	if err := os.Remove(cdn); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file, Overrides{}); err == nil || !strings.Contains(err.Error(), "the file cdn.txt cannot be read: no such file or directory") {
		t.Errorf("a missing file: %v", err)
	}
	put(cdn, "0.0.0.0/0\n")
	c, err = Load(file, Overrides{})
	if err != nil || len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0].Error(), cdn+":1:1: 0.0.0.0/0 trusts every peer") {
		t.Errorf("everyone trusted: %v, %v", err, c.Warnings)
	}
}
