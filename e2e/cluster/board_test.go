package cluster_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/loki"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/prometheus/prometheus/promql/parser"
)

// The board has the form that Grafana's own types describe, without a field that they do not know,
// and its queries of metrics are PromQL. That Grafana shows it is not tested.
func TestBoard(t *testing.T) {
	text, err := os.ReadFile("../../deploy/grafana/extauthz.json")
	if err != nil {
		t.Fatal(err)
	}
	plugins.RegisterDefaultPlugins()
	//nolint:staticcheck // the form that every Grafana imports
	var board, strict dashboard.Dashboard
	if err := strict.UnmarshalJSONStrict(text); err != nil && err.Error() != "" { // an empty list of errors is not nil
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	if err := board.Validate(); err != nil {
		t.Error(err)
	}
	variables := map[string]bool{}
	for _, v := range board.Templating.List {
		variables[v.Name] = true
	}
	titles := map[string]bool{}
	ids := map[uint32]bool{}
	for _, p := range board.Panels {
		panel := p.Panel
		if panel == nil {
			continue // a row
		}
		titles[*panel.Title] = true
		if ids[*panel.Id] {
			t.Errorf("two panels have the id %d", *panel.Id)
		}
		ids[*panel.Id] = true
		if len(panel.Targets) == 0 {
			t.Errorf("%s has no query", *panel.Title)
		}
		for _, target := range panel.Targets {
			switch q := target.(type) {
			case *prometheus.Dataquery:
				if _, err := parser.NewParser(parser.Options{}).ParseExpr(strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*").Replace(q.Expr)); err != nil {
					t.Errorf("%s: %v", *panel.Title, err)
				}
				if !strings.Contains(q.Expr, `job=~"$job"`) || !strings.Contains(q.Expr, `instance=~"$instance"`) {
					t.Errorf("%s is not of the chosen job and instance: %s", *panel.Title, q.Expr)
				}
			case *loki.Dataquery:
				if !strings.Contains(q.Expr, `${decisions:raw} | json | type="decision"`) || !strings.Contains(q.Expr, `key_id=~"$key"`) {
					t.Errorf("%s is not of the chosen log and key: %s", *panel.Title, q.Expr)
				}
			default:
				t.Errorf("%s has a query of the type %T", *panel.Title, q)
			}
		}
	}
	for _, name := range []string{"datasource", "job", "instance", "loki", "decisions", "key"} {
		if !variables[name] {
			t.Errorf("no variable %s", name)
		}
	}
	for _, title := range []string{
		"Decisions by code", "Refusals by key", "Latency of decisions", "Outage, and channel", "Oldest stale record in use",
		"Rate limiter", "Keys that expire soon, keys in report mode", "Replicas and their versions",
	} {
		if !titles[title] {
			t.Errorf("no panel %q", title)
		}
	}
}
