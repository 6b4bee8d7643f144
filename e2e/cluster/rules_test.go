package cluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	corev1 "k8s.io/api/core/v1"

	"extauthz/certtest"
	"extauthz/e2e/harness"
	"extauthz/polltest"
	"extauthz/redisclient/redistest"
)

// The alerts of a release are those of deploy/prometheus/alerts.yaml, for its pods alone, and their
// expressions name metrics that a server has.
func TestAlerts(t *testing.T) {
	source, err := os.ReadFile("../../deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := render(t, readValues(t, filepath.Join(chartDir, "ci", "everything-values.yaml")))
	rules := all[*monitoringv1.PrometheusRule](r)[0].Spec.Groups[0].Rules
	if n := strings.Count(string(source), "- alert: "); len(rules) != n || n == 0 {
		t.Errorf("%d alerts, want %d", len(rules), n)
	}
	metrics := metricsOfAServer(t)
	for _, rule := range rules {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(rule.Expr.String())
		if err != nil {
			t.Errorf("%s: %v", rule.Alert, err)
			continue
		}
		selectors := 0
		parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
			if v, ok := n.(*parser.VectorSelector); ok {
				selectors++
				if v.Name != "up" && !strings.Contains(metrics, "\n# TYPE "+strings.TrimSuffix(v.Name, "_bucket")+" ") {
					t.Errorf("%s: there is no metric %s", rule.Alert, v.Name)
				}
				if !slices.ContainsFunc(v.LabelMatchers, func(m *labels.Matcher) bool { return m.Name == "service" && m.Value == "test-extauthz-admin" }) {
					t.Errorf("%s is about other releases too: %s", rule.Alert, v)
				}
			}
			return nil
		})
		if selectors == 0 || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" || rule.Labels["severity"] == "" {
			t.Errorf("%+v", rule)
		}
		if !strings.HasPrefix(rule.Annotations["runbook_url"], "https://wiki.example.com/runbook#") {
			t.Errorf("%s: the runbook is %s", rule.Alert, rule.Annotations["runbook_url"])
		}
	}
}

// metricsOfAServer returns the metrics of a server with TLS, a database and both logs, which has all
// there are.
func metricsOfAServer(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	certtest.New(t).Issue(t, certtest.Certificate{Names: []string{"extauthz.example.com"}}, cert, key)
	server := harness.StartExtauthz(t, harness.Settings{Config: fmt.Sprintf(`tls: {cert_file: %q, key_file: %q}
store: {redis: {url: %q}}
usage: {record: true}
decision_log: {path: %q}
`, cert, key, redistest.Start(t).URL(), filepath.Join(dir, "decisions.log"))})
	polltest.Until(t, "the keys are counted", func() bool { return strings.Contains(server.Metrics(t), "extauthz_keys_expiring{") })
	return server.Metrics(t)
}

// The monitor finds the admin port of this release's Service and no other.
func TestServiceMonitor(t *testing.T) {
	r := render(t, readValues(t, filepath.Join(chartDir, "ci", "everything-values.yaml")))
	m := all[*monitoringv1.ServiceMonitor](r)[0]
	found := 0
	for _, s := range all[*corev1.Service](r) {
		if !selects(t, &m.Spec.Selector, s.Labels) {
			continue
		}
		found++
		if !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == m.Spec.Endpoints[0].Port && p.Port == 9192 }) {
			t.Errorf("the Service %s has no port %s", s.Name, m.Spec.Endpoints[0].Port)
		}
	}
	if found != 1 || !slices.Equal(m.Spec.NamespaceSelector.MatchNames, []string{"extauthz"}) {
		t.Errorf("finds %d Services in %v", found, m.Spec.NamespaceSelector)
	}
}
