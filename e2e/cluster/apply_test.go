package cluster_test

import (
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"extauthz/polltest"
)

// TestApply applies the chart, under each of its values files, and the examples to a real Kubernetes API server, as
// `helm install`, `helm upgrade` and `kubectl apply --server-side` do, in namespaces that enforce the Pod Security
// Standard "restricted". Any warning fails the test, and a pod is made of every template, as a controller would.
func TestApply(t *testing.T) {
	s := startAPIServer(t)
	s.installDefinitions()
	t.Run("refusals", func(t *testing.T) { s.in(t).testRefusals() })
	t.Run("chart", func(t *testing.T) { s.in(t).testChart() })
	t.Run("examples", func(t *testing.T) { s.in(t).testExamples() })
}

// testChart installs each values file in a namespace of its own, and then upgrades to each of the others.
func (s *apiServer) testChart() {
	t := s.t
	files := valuesFiles(t)
	for i, file := range files {
		namespace := strings.TrimSuffix(filepath.Base(file), ".yaml")
		s.createNamespace(namespace)
		headless := isHeadless(t, file)
		for _, next := range slices.Concat(files[i:], files[:i]) {
			if isHeadless(t, next) != headless {
				s.deleteService(namespace)
				headless = !headless
			}
			s.applyRelease(next, namespace)
		}
	}
}

// isHeadless returns service.headless of a values file.
func isHeadless(t *testing.T, file string) bool {
	t.Helper()
	headless, _, err := unstructured.NestedBool(readValues(t, file), "service", "headless")
	if err != nil {
		t.Fatal(file, err)
	}
	return headless
}

// deleteService deletes the Service of the release, as values.yaml requires before service.headless changes.
func (s *apiServer) deleteService(namespace string) {
	s.t.Helper()
	service := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Service"}}
	client, err := s.resource(service, namespace)
	if err == nil {
		err = s.delete(client, "test-extauthz")
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *apiServer) testExamples() {
	t := s.t
	for _, namespace := range []string{"apps", "extauthz", "istio-system", "unnamed"} {
		s.createNamespace(namespace)
	}
	for _, name := range manifestExamples {
		files, err := filepath.Glob(filepath.Join(examplesDir, name, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			switch base := filepath.Base(file); {
			case strings.HasPrefix(base, "values"):
				namespace := name + "-" + strings.TrimSuffix(base, ".yaml")
				s.createNamespace(namespace)
				s.applyRelease(file, namespace)
			case base != "mesh.yaml": // values of Istio's chart
				s.applyAll(file, documents(t, file, readFile(t, file)), "unnamed")
			}
		}
	}
	const section = "kgateway and Contour"
	s.applyAll(section, slices.DeleteFunc(snippets(t, section), func(doc []byte) bool {
		return kindOf(t, section, doc).Group == "gateway.kgateway.dev" // no module has its definitions
	}), "unnamed")
}

// applyRelease applies what Helm renders from a values file.
func (s *apiServer) applyRelease(values, namespace string) {
	t := s.t
	t.Helper()
	files, err := template(readValues(t, values))
	if err != nil {
		t.Fatal(err)
	}
	var docs [][]byte
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".yaml") {
			docs = append(docs, documents(t, name, files[name])...)
		}
	}
	s.applyAll(values, docs, namespace)
}

// applyAll applies manifests. All must be accepted, without a warning, and so must the pods that
// they lead to.
func (s *apiServer) applyAll(name string, docs [][]byte, namespace string) {
	t := s.t
	t.Helper()
	var objects []*unstructured.Unstructured
	for _, doc := range docs {
		applied, err := s.apply(doc, namespace)
		if err != nil {
			t.Errorf("%s in %s: %s: %v", name, namespace, kindOf(t, name, doc).Kind, err)
			continue
		}
		objects = append(objects, applied)
	}
	for _, o := range objects { // the service account of a pod must be there
		if err := s.createPod(o); err != nil {
			t.Errorf("%s in %s: a pod of the %s: %v", name, namespace, o.GetKind(), err)
		}
	}
	for _, w := range s.warnings.take() {
		t.Errorf("%s in %s: warning: %s", name, namespace, w)
	}
}

// createPod creates a pod from the template of an object, if it has one. Pod Security refuses pods, and only warns of
// templates.
func (s *apiServer) createPod(of *unstructured.Unstructured) error {
	template, found, err := unstructured.NestedMap(of.Object, "spec", "template")
	if err != nil || !found {
		return err
	}
	pod := &unstructured.Unstructured{Object: template}
	pod.SetAPIVersion("v1")
	pod.SetKind("Pod")
	pod.SetGenerateName(of.GetName() + "-")
	client, err := s.resource(pod, of.GetNamespace())
	if err != nil {
		return err
	}
	_, err = client.Create(s.t.Context(), pod, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	return err
}

// createNamespace creates a namespace that refuses pods that are not restricted, with the service accounts that the
// chart does not create: a controller's, and that of ci/existing-secret-values.yaml.
func (s *apiServer) createNamespace(name string) {
	s.t.Helper()
	s.mustApply(`
apiVersion: v1
kind: Namespace
metadata:
  name: %s
  labels: {pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted}
`, name)
	for _, account := range []string{"default", "existing"} {
		s.mustApply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s, namespace: %s}\n", account, name)
	}
}

// customKinds are those of the chart and of the examples, by the module that has their CustomResourceDefinitions.
var customKinds = []struct {
	module, pattern string
	kinds           []string
}{
	{"github.com/prometheus-operator/prometheus-operator", "example/prometheus-operator-crd/*.yaml", []string{"PrometheusRule", "ServiceMonitor"}},
	{"sigs.k8s.io/gateway-api", "config/crd/experimental/*.yaml", []string{"Gateway", "GatewayClass", "HTTPRoute", "ReferenceGrant"}},
	{"github.com/envoyproxy/gateway", "charts/gateway-helm/charts/crds/crds/generated/*.yaml", []string{"ClientTrafficPolicy", "EnvoyProxy", "SecurityPolicy"}},
	{"github.com/projectcontour/contour", "examples/contour/01-crds.yaml", []string{"ExtensionService", "HTTPProxy"}},
	{"istio.io/api", "kubernetes/customresourcedefinitions.gen.yaml", []string{"AuthorizationPolicy", "DestinationRule"}},
}

// installDefinitions installs the CustomResourceDefinitions of customKinds, and waits until the API server has them.
func (s *apiServer) installDefinitions() {
	t := s.t
	t.Helper()
	missing := map[string]bool{}
	for _, from := range customKinds {
		dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", from.module).Output()
		if err != nil {
			t.Fatal(from.module, err)
		}
		files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), from.pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			for _, doc := range documents(t, file, readFile(t, file)) {
				if kind := definedKind(t, doc); slices.Contains(from.kinds, kind) {
					s.mustApply("%s", doc)
					missing[kind] = true
				}
			}
		}
		for _, kind := range from.kinds {
			if !missing[kind] {
				t.Fatalf("%s: no CustomResourceDefinition of %s in %s", from.module, kind, from.pattern)
			}
		}
	}
	polltest.Until(t, "the API server has all kinds", func() bool {
		lists, err := s.discovery.ServerPreferredResources()
		for _, list := range lists {
			for _, r := range list.APIResources {
				delete(missing, r.Kind)
			}
		}
		return err == nil && len(missing) == 0
	})
	s.discover()
	s.warnings.take() // of the definitions, which are not this project's
}

// definedKind returns the kind that a CustomResourceDefinition defines, or "" for another object.
func definedKind(t *testing.T, doc []byte) string {
	t.Helper()
	var definition struct {
		Kind string
		Spec struct{ Names struct{ Kind string } }
	}
	if err := yaml.Unmarshal(doc, &definition); err != nil {
		t.Fatal(err)
	}
	if definition.Kind != "CustomResourceDefinition" {
		return ""
	}
	return definition.Spec.Names.Kind
}
