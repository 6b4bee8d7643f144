package e2e_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"extauthz/e2e/harness"
)

// A recording holds the samples that Prometheus would have from consecutive scrapes of one server.
type recording struct {
	began  time.Time
	times  []time.Time
	series map[string][]sample // by name and labels
}

// A sample is a value from the scrape with this number.
type sample struct {
	scrape int
	value  float64
}

func newRecording() *recording {
	return &recording{began: time.Now(), series: make(map[string][]sample)}
}

var metricLine = regexp.MustCompile(`(?m)^(extauthz_[a-z_]+)(?:\{(.*)\})? (\S+)$`)

// scrape adds the server's current metrics, and `up`, which Prometheus itself adds.
func (r *recording) scrape(t *testing.T, s *harness.Server) {
	t.Helper()
	n := len(r.times)
	r.times = append(r.times, time.Now())
	text, err := metricsOf(s)
	up := 1.0
	if err != nil {
		up = 0
	}
	r.add("up", "", sample{n, up})
	for _, m := range metricLine.FindAllStringSubmatch(text, -1) {
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatalf("%q: %v", m[0], err)
		}
		r.add(m[1], m[2], sample{n, value})
	}
}

func metricsOf(s *harness.Server) (string, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.Admin + "/metrics")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func (r *recording) add(name, labels string, s sample) {
	if labels != "" {
		labels += ","
	}
	id := name + "{" + labels + `job="extauthz",instance="` + "a" + `"}`
	r.series[id] = append(r.series[id], s)
}

// stretched converts a value to a clock that begins at 0 and on which scrapes are step apart. Metrics that
// are times or ages are converted to that clock.
func (r *recording) stretched(name string, value float64, step time.Duration) float64 {
	switch {
	case strings.HasPrefix(name, "extauthz_cache_oldest_stale_seconds"):
		pace := r.times[len(r.times)-1].Sub(r.times[0]) / time.Duration(len(r.times)-1)
		return value * step.Seconds() / pace.Seconds()
	case strings.Contains(name, "_timestamp_seconds{"):
		return value - float64(r.began.UnixMilli())/1e3
	}
	return value
}

// alerted makes promtool evaluate the alerts over the recording, on a clock on which scrapes are step apart.
// No alert may fire in the first scrapes, before the fault, and the named ones must fire at the end.
func (r *recording) alerted(t *testing.T, before int, step time.Duration, alerts []string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "rule_files: [%q]\nevaluation_interval: 1m\ntests:\n  - interval: %s\n    input_series:\n",
		filepath.Join(harness.Root(t), "deploy", "prometheus", "alerts.yaml"), step)
	for _, id := range slices.Sorted(maps.Keys(r.series)) {
		values := slices.Repeat([]string{"_"}, len(r.times))
		for _, s := range r.series[id] {
			values[s.scrape] = strconv.FormatFloat(r.stretched(id, s.value, step), 'f', -1, 64)
		}
		fmt.Fprintf(&b, "      - {series: '%s', values: '%s'}\n", id, strings.Join(values, " "))
	}
	b.WriteString("    promql_expr_test:\n")
	fmt.Fprintf(&b, "      - {expr: 'ALERTS{alertstate=\"firing\"}', eval_time: %s, exp_samples: []}\n", time.Duration(before-1)*step)
	for _, alert := range alerts {
		fmt.Fprintf(&b, "      - {expr: 'count(count by (alertname) (ALERTS{alertname=%q,alertstate=\"firing\"}))', eval_time: %s, exp_samples: [{labels: '{}', value: 1}]}\n",
			alert, time.Duration(len(r.times)-1)*step)
	}
	file := filepath.Join(t.TempDir(), "recorded.yaml")
	writeFile(t, file, b.String())
	if out, err := exec.CommandContext(t.Context(), "promtool", "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool test rules: %v (`make databases` installs it)\n%s", err, out)
		if text, err := os.ReadFile(file); err == nil {
			t.Logf("%s", text)
		}
	}
}
