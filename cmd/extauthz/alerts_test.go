package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var deployed = filepath.Join("..", "..", "deploy")

// promtool runs Prometheus's own checks.
func promtool(t *testing.T, stdin, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "promtool", args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v (`make databases` installs it)\n%s", strings.Join(args, " "), err, out)
	}
}

// Each alert fires on its fault, and none does without one.
func TestAlerts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(deployed, "prometheus")
	promtool(t, "", dir, "check", "rules", "alerts.yaml")
	promtool(t, "", dir, "test", "rules", "alerts_test.yaml")
	if readFile(t, filepath.Join("..", "..", "charts", "extauthz", "files", "alerts.yaml")) != readFile(t, filepath.Join(dir, "alerts.yaml")) {
		t.Error("the chart's alerts are not those of deploy/prometheus/alerts.yaml: run `cp deploy/prometheus/alerts.yaml charts/extauthz/files/`")
	}
	rules, tests := readFile(t, filepath.Join(dir, "alerts.yaml")), readFile(t, filepath.Join(dir, "alerts_test.yaml"))
	for _, m := range regexp.MustCompile(`- alert: (\S+)`).FindAllStringSubmatch(rules, -1) {
		if !strings.Contains(tests, `alertname="`+m[1]+`"`) {
			t.Errorf("no test of the alert %s", m[1])
		}
	}
	var anchors []string
	for _, m := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(readFile(t, filepath.Join("..", "..", "docs", "runbook.md")), -1) {
		anchors = append(anchors, strings.ReplaceAll(strings.ToLower(m[1]), " ", "-"))
	}
	links := regexp.MustCompile(`runbook_url: docs/runbook\.md#(\S+)`).FindAllStringSubmatch(rules, -1)
	if n := strings.Count(rules, "- alert:"); len(links) != n {
		t.Errorf("%d of %d alerts have a runbook", len(links), n)
	}
	for _, m := range links {
		if !slices.Contains(anchors, m[1]) {
			t.Errorf("docs/runbook.md has no section %s", m[1])
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
