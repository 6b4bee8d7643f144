package cluster_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// A definition is what an API server checks custom resources of one kind and version by.
type definition struct {
	structural *structuralschema.Structural
	validator  validation.SchemaValidator
	rules      *cel.Validator // nil: there are none
}

// definitions are the CustomResourceDefinitions of the projects whose kinds the chart and the examples use,
// from their own modules: the Prometheus operator, the Gateway API, Envoy Gateway and Contour.
func definitions(t *testing.T) map[schema.GroupVersionKind]definition {
	t.Helper()
	found := map[schema.GroupVersionKind]definition{}
	for module, pattern := range map[string]string{
		"github.com/prometheus-operator/prometheus-operator": "example/prometheus-operator-crd/*.yaml",
		"sigs.k8s.io/gateway-api":                            "config/crd/experimental/*.yaml",
		"github.com/envoyproxy/gateway":                      "charts/gateway-helm/charts/crds/crds/generated/*.yaml",
		"github.com/projectcontour/contour":                  "examples/contour/01-crds.yaml",
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
		dir := strings.TrimSpace(string(out))
		if err != nil || dir == "" {
			t.Fatalf("%s: %v", module, err)
		}
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no %s (%v)", module, pattern, err)
		}
		for _, file := range files {
			for _, doc := range documents(t, file, readFile(t, file)) {
				if kindOf(t, file, doc).Kind == "CustomResourceDefinition" {
					addDefinitions(t, file, doc, found)
				}
			}
		}
	}
	return found
}

func addDefinitions(t *testing.T, file string, doc []byte, to map[schema.GroupVersionKind]definition) {
	t.Helper()
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(doc, &crd); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for _, version := range crd.Spec.Versions {
		kind := schema.GroupVersionKind{Group: crd.Spec.Group, Version: version.Name, Kind: crd.Spec.Names.Kind}
		if !slices.Contains([]string{"ServiceMonitor", "PrometheusRule", "Gateway", "HTTPRoute", "ReferenceGrant", "SecurityPolicy", "ClientTrafficPolicy", "EnvoyProxy", "Backend", "GatewayClass", "ExtensionService", "HTTPProxy"}, kind.Kind) {
			continue
		}
		var internal apiextensions.JSONSchemaProps
		if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version.Schema.OpenAPIV3Schema, &internal, nil); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		structural, err := structuralschema.NewStructural(&internal)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		validator, _, err := validation.NewSchemaValidator(&internal)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		to[kind] = definition{structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
	}
}

// problems returns what an API server would have against a manifest: unknown fields, values that the schema
// does not allow, and rules that do not hold.
func (d *definition) problems(t *testing.T, doc []byte) (list []string) {
	t.Helper()
	var object map[string]any
	text, err := yaml.YAMLToJSON(doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &object); err != nil { // whole numbers are int64
		t.Fatal(err)
	}
	for _, path := range pruning.PruneWithOptions(object, d.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		list = append(list, "unknown field "+path)
	}
	defaulting.Default(object, d.structural)
	for _, err := range validation.ValidateCustomResource(nil, object, d.validator) {
		list = append(list, err.Error())
	}
	if d.rules != nil {
		errs, _ := d.rules.Validate(t.Context(), nil, d.structural, object, nil, celconfig.RuntimeCELCostBudget)
		for _, err := range errs {
			list = append(list, err.Error())
		}
	}
	return list
}

// TestDefinitions checks every custom resource of the chart, under each of its values files, and of the
// examples as an API server does.
func TestDefinitions(t *testing.T) {
	known := definitions(t)
	checked := map[string]int{}
	check := func(name, text string) {
		for _, doc := range documents(t, name, text) {
			kind := kindOf(t, name, doc)
			d, ok := known[kind]
			switch {
			case ok:
				checked[kind.Kind]++
				for _, problem := range d.problems(t, doc) {
					t.Errorf("%s: %s: %s", name, kind.Kind, problem)
				}
			case strings.Contains(kind.Group, "gateway") || kind.Group == "monitoring.coreos.com":
				t.Errorf("%s: there is no definition of %s", name, kind)
			}
		}
	}
	for _, file := range valuesFiles(t) {
		files, err := template(readValues(t, file))
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			if strings.HasSuffix(name, ".yaml") {
				check(filepath.Base(file)+": "+name, text)
			}
		}
	}
	for _, name := range manifestExamples {
		files, err := filepath.Glob(filepath.Join(examplesDir, name, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if base := filepath.Base(file); !strings.HasPrefix(base, "values") && base != "mesh.yaml" {
				check(file, readFile(t, file))
			}
		}
	}
	for _, kind := range []string{"ServiceMonitor", "PrometheusRule", "Gateway", "HTTPRoute", "ReferenceGrant", "SecurityPolicy", "ClientTrafficPolicy"} {
		if checked[kind] == 0 {
			t.Errorf("no %s was checked", kind)
		}
	}

	for kind, wrong := range map[string]string{
		"PrometheusRule":      "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nspec: {groups: [{name: a, interval: 1 hour, rules: []}]}\n",
		"ServiceMonitor":      "apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nspec: {selector: {}, endpoint: []}\n",
		"HTTPRoute":           "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nspec: {rules: [{filters: [{type: ExternalAuth}]}]}\n",
		"SecurityPolicy":      "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nspec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: a}], extAuth: {failOpen: false}}\n",
		"ClientTrafficPolicy": "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: ClientTrafficPolicy\nspec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: a}], clientIPDetection: {xForwardedFor: {numTrustedHops: 1, trustedCIDRs: [10.0.0.0/8]}}}\n",
	} {
		d := known[kindOf(t, kind, []byte(wrong))]
		if problems := d.problems(t, []byte(wrong)); len(problems) == 0 {
			t.Errorf("nothing is wrong with\n%s", wrong)
		}
	}
}
