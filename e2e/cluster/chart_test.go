// Package cluster_test holds what is for Kubernetes against the real thing: the chart is rendered by
// Helm, manifests are read by the types of their own projects, and a real Envoy Gateway runs.
package cluster_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/runtime"
)

const chartDir = "../../charts/extauthz"

// valuesFiles are the names of the files under ci.
func valuesFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chartDir, "ci", "*-values.yaml"))
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	return files
}

func readValues(t *testing.T, file string) map[string]any {
	t.Helper()
	values, err := common.ReadValuesFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// template is `helm template`: the text of each rendered file.
func template(values map[string]any) (map[string]string, error) {
	chart, err := loader.LoadDir(chartDir)
	if err != nil {
		return nil, err
	}
	all, err := util.ToRenderValues(chart, values, common.ReleaseOptions{
		Name: "test", Namespace: "extauthz", Revision: 1, IsInstall: true,
	}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(chart, all)
}

// A release is a rendered chart.
type release struct {
	t       *testing.T
	notes   string
	objects []runtime.Object
}

func render(t *testing.T, values map[string]any) *release {
	t.Helper()
	files, err := template(values)
	if err != nil {
		t.Fatal(err)
	}
	r := &release{t: t}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		switch {
		case strings.HasSuffix(name, "NOTES.txt"):
			r.notes = files[name]
		case strings.HasSuffix(name, ".yaml"):
			r.objects = append(r.objects, decode(t, name, files[name])...)
		}
	}
	return r
}

// all returns the release's objects of one type.
func all[T runtime.Object](r *release) (list []T) {
	for _, o := range r.objects {
		if o, ok := o.(T); ok {
			list = append(list, o)
		}
	}
	return list
}

func TestLint(t *testing.T) {
	for _, file := range valuesFiles(t) {
		result := lint.RunAll(chartDir, readValues(t, file), "extauthz")
		for _, m := range result.Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %v", filepath.Base(file), m)
			}
		}
	}
}

// Every manifest of every values file is one that its own types know, and no name is there twice.
func TestManifests(t *testing.T) {
	kinds := map[string]bool{}
	for _, file := range valuesFiles(t) {
		r := render(t, readValues(t, file))
		if !strings.Contains(r.notes, "helm test") {
			t.Errorf("%s: the notes do not say how to test: %s", file, r.notes)
		}
		seen := map[string]bool{}
		for _, o := range r.objects {
			m := meta(t, o)
			kind := o.GetObjectKind().GroupVersionKind().Kind
			kinds[kind] = true
			if id := kind + " " + m.GetName(); seen[id] {
				t.Errorf("%s: %s is there twice", file, id)
			} else {
				seen[id] = true
			}
			if len(m.GetName()) > 63 || m.GetNamespace() != "" {
				t.Errorf("%s: %s %s/%s", file, kind, m.GetNamespace(), m.GetName())
			}
		}
	}
	for _, kind := range []string{
		"ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Job", "NetworkPolicy", "Pod", "PodDisruptionBudget",
		"PrometheusRule", "Secret", "Service", "ServiceAccount", "ServiceMonitor",
	} {
		if !kinds[kind] {
			t.Errorf("no values file under ci has a %s", kind)
		}
	}
}

// What is wrong in the values is refused before anything is rendered.
func TestSchemaRefuses(t *testing.T) {
	for _, wrong := range []string{
		`replica: 3`,
		`replicas: 0`,
		`replicas: "3"`,
		`image: {tag: 1}`,
		`image: {digest: latest}`,
		`store: {type: mysql}`,
		`store: {type: postgres}`,
		`store: {type: redis}`,
		`store: {yaml: {keys: [{id: key_a, secret: demo}]}}`,
		`store: {yaml: {keys: [{id: key_a, hash: short}]}}`,
		`store: {yaml: {keys: [{id: key_a, hash: 4b0c7c91c147668d8e13501d82b35e0f5c8374f52746455c6e95964e26c636bf, ip_whitelist: []}]}}`,
		`config: {listen: ":1"}`,
		`config: {admin: {pprof: true}}`,
		`config: {store: {yaml: {path: x}}}`,
		`config: {tls: {}}`,
		`config: {dashboard: {}}`,
		`config: {ratelimit: {store: redis, url: "redis://:secret@redis:6379"}}`,
		`tls: {enabled: true}`,
		`dashboard: {enabled: true, url: "https://keys.example.com", oidc: {issuer: "https://a.example.com", editors: [a]}}`,
		`{store: {type: redis, redis: {existingSecret: r}}, dashboard: {enabled: true, url: "https://keys.example.com", oidc: {issuer: "https://a.example.com"}}}`,
		`{store: {type: redis, redis: {existingSecret: r}}, dashboard: {enabled: true, url: "http://keys.example.com", oidc: {issuer: "https://a.example.com", editors: [a]}}}`,
		`podSecurity: {runAsUser: 0}`,
		`podSecurity: {privileged: true}`,
		`extraVolumes: [{name: host, hostPath: {path: /}}]`,
		`extraVolumeMounts: [{name: a, mountPath: /a, subPath: b}]`,
		`networkPolicy: {envoys: [{}]}`,
		`networkPolicy: {envoys: [{podSelectors: {}}]}`,
		`topologySpread: {whenUnsatisfiable: Never}`,
	} {
		values, err := common.ReadValues([]byte(wrong))
		if err != nil {
			t.Fatal(wrong, err)
		}
		if _, err := template(values); err == nil || !strings.Contains(err.Error(), "schema") {
			t.Errorf("%s: %v, want a refusal by the schema", wrong, err)
		}
	}
}

// values.yaml and the schema have the same fields.
func TestSchemaIsThatOfTheValues(t *testing.T) {
	schema := readValues(t, filepath.Join(chartDir, "values.schema.json"))
	var compare func(path string, values, schema map[string]any)
	compare = func(path string, values, schema map[string]any) {
		properties, _ := schema["properties"].(map[string]any)
		if schema["additionalProperties"] != false {
			return
		}
		for name := range properties {
			if _, ok := values[name]; !ok && name != "global" && name != "claims" && name != "requests" && name != "limits" {
				t.Errorf("values.yaml does not have %s%s", path, name)
			}
		}
		for name, value := range values {
			property, ok := properties[name].(map[string]any)
			if !ok {
				t.Errorf("the schema does not have %s%s", path, name)
			} else if value, ok := value.(map[string]any); ok {
				compare(path+name+".", value, property)
			}
		}
	}
	compare("", readValues(t, filepath.Join(chartDir, "values.yaml")), schema)
}
