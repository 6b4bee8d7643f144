package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What docs/operations.md says of metrics, fields and commands is there.
func TestOperationsNamesWhatThereIs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	pki := newPKI(t)
	metrics := ""
	for _, configuration := range []string{local + `store: {postgres: {dsn: "postgres://a@127.0.0.1:1/a"}}`, pki.config(t, "")} {
		_, text := serve(t, configuration).get(t, "/metrics")
		metrics += text
	}
	names := regexp.MustCompile(`extauthz_[a-z_]+(\{[a-z]+="[A-Za-z0-9_]+"\})?`).FindAllString(string(text), -1)
	if len(names) < 10 {
		t.Fatalf("metrics named: %v", names)
	}
	for _, name := range names {
		if !strings.Contains(metrics, "\n"+name+" ") {
			t.Errorf("no metric %s", name)
		}
	}
	for _, words := range regexp.MustCompile("`?extauthz (store|key) ([a-z]+)").FindAllStringSubmatch(string(text), -1) {
		if help := command(t, "", words[1], words[2], "--help"); !strings.Contains(help, "extauthz "+words[1]+" "+words[2]) {
			t.Errorf("no command %s", words[0])
		}
	}
}
