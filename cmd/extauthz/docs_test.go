package main

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"extauthz/redisclient/redistest"
)

// Every metric in the alerts, the Grafana dashboard and the documentation is a metric of a running server,
// with the same labels. All names follow Prometheus's conventions.
func TestMetricsAreThere(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "keys.yaml"), keyFile(secretOne))
	rd := redistest.Start(t)
	scrape := ""
	for _, configuration := range []string{
		local + "store: {yaml: {path: " + dir + "/keys.yaml}}\nusage: {record: true, path: " + dir + "/usage.db}\ndecision_log: {path: " + dir + "/decisions.log}\nmetrics: {owners: 1}\ntracing: {endpoint: \"http://127.0.0.1:1\"}\n",
		local + `store: {postgres: {dsn: "postgres://a@127.0.0.1:1/a"}}`,
		local + `store: {redis: {url: "redis://` + rd.Addr() + `"}}` + "\nusage: {record: true}\n",
		newPKI(t).config(t, ""),
	} {
		_, text := serve(t, configuration).get(t, "/metrics")
		promtool(t, text, "", "check", "metrics")
		scrape += text
	}
	board := readFile(t, filepath.Join(deployed, "grafana", "extauthz.json"))
	if !json.Valid([]byte(board)) {
		t.Error("the board is no JSON")
	}
	alerts := readFile(t, filepath.Join(deployed, "prometheus", "alerts.yaml"))
	text := board + strings.NewReplacer(`{job="extauthz"}`, "", `job="extauthz",`, "").Replace(alerts)
	for _, name := range documentation(t) {
		text += fence.ReplaceAllString(readFile(t, name), "")
	}
	names := regexp.MustCompile(`extauthz_[a-z_]+[a-z](\{[a-z]+="[A-Za-z0-9_]+"\})?`).FindAllString(text, -1)
	slices.Sort(names)
	if names = slices.Compact(names); len(names) < 30 {
		t.Fatalf("metrics named: %v", names)
	}
	for _, name := range names {
		if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `(_bucket)?[{ ]`).MatchString(scrape) {
			t.Errorf("no metric %s", name)
		}
	}
}

// fence matches a block of code.
var fence = regexp.MustCompile("(?s)```.*?```")

// documentation returns the names of the pages about the current product.
func documentation(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil || len(pages) < 8 {
		t.Fatal(pages, err)
	}
	return append(pages, filepath.Join("..", "..", "README.md"))
}

// Every command in the documentation exists.
func TestCommandsAreThere(t *testing.T) {
	seen := make(map[string]bool)
	for _, page := range documentation(t) {
		for _, words := range regexp.MustCompile("`?extauthz (store|key) ([a-z]+)").FindAllStringSubmatch(readFile(t, page), -1) {
			if seen[words[0]] {
				continue
			}
			seen[words[0]] = true
			if help := command(t, "", words[1], words[2], "--help"); !strings.Contains(help, "extauthz "+words[1]+" "+words[2]) {
				t.Errorf("no command %s", words[0])
			}
		}
	}
	if len(seen) < 10 {
		t.Errorf("commands named: %v", seen)
	}
}
