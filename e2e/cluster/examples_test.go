package cluster_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	egv1a1 "github.com/envoyproxy/gateway/api/v1alpha1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	networkingv1alpha3 "istio.io/api/networking/v1alpha3"
	securityv1beta1 "istio.io/api/security/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	"sigs.k8s.io/yaml"

	"extauthz/e2e/harness"
)

const examplesDir = "../../examples"

// The folders of examples that are manifests.
var manifestExamples = []string{"kubernetes", "envoy-gateway", "istio", "gateway-api"}

// istioSpecs are the specs of Istio's objects, by kind. Istio's own Go types ignore unknown fields in
// JSON, so the messages are read strictly here.
var istioSpecs = map[string]func() proto.Message{
	"AuthorizationPolicy": func() proto.Message { return &securityv1beta1.AuthorizationPolicy{} },
	"DestinationRule":     func() proto.Message { return &networkingv1alpha3.DestinationRule{} },
}

// decodeIstio reads an object of Istio strictly, and returns its spec.
func decodeIstio(t *testing.T, name string, doc []byte) proto.Message {
	t.Helper()
	var object struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Metadata   map[string]any `json:"metadata"`
		Spec       map[string]any `json:"spec"`
	}
	if err := yaml.UnmarshalStrict(doc, &object); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	message := istioSpecs[object.Kind]
	if message == nil {
		t.Fatalf("%s: no type for %s", name, object.Kind)
	}
	spec := message()
	readMessage(t, name, object.Spec, spec)
	return spec
}

// readMessage reads a part of a YAML file into a message, strictly.
func readMessage(t *testing.T, name string, part any, to proto.Message) {
	t.Helper()
	text, err := yaml.Marshal(part)
	if err != nil {
		t.Fatal(err)
	}
	text, err = yaml.YAMLToJSONStrict(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(text, to); err != nil {
		t.Errorf("%s: %v\n%s", name, err, text)
	}
}

// objectsOf reads every manifest of an example strictly.
func objectsOf(t *testing.T, name string) (objects []runtime.Object, istio []proto.Message) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(examplesDir, name, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if base := filepath.Base(file); strings.HasPrefix(base, "values") || base == "mesh.yaml" {
			continue
		}
		for _, doc := range documents(t, file, readFile(t, file)) {
			if strings.HasSuffix(kindOf(t, file, doc).Group, ".istio.io") {
				istio = append(istio, decodeIstio(t, file, doc))
			} else {
				objects = append(objects, decodeOne(t, file, doc))
			}
		}
	}
	return objects, istio
}

func TestExamples(t *testing.T) {
	for _, name := range manifestExamples {
		t.Run(name, func(t *testing.T) {
			objects, _ := objectsOf(t, name)
			for _, p := range pods(objects) {
				restricted(t, p)
			}
			for _, o := range objects {
				switch o := o.(type) {
				case *corev1.ConfigMap:
					if text, ok := o.Data["extauthz.yaml"]; ok {
						load(t, text)
					}
					if text, ok := o.Data["envoy.yaml"]; ok {
						if err := harness.ValidateEnvoy(t, text); err != nil {
							t.Error(err)
						}
					}
				case *corev1.Secret:
					loadKeys(t, o.StringData["keys.yaml"])
				}
			}
			values, err := filepath.Glob(filepath.Join(examplesDir, name, "values*.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range values {
				load(t, all[*corev1.ConfigMap](render(t, readValues(t, file)))[0].Data["extauthz.yaml"])
			}
		})
	}
}

// The control planes' defaults are not the right ones: each policy says its own.
func TestEnvoyGatewayPolicies(t *testing.T) {
	objects, _ := objectsOf(t, "envoy-gateway")
	r := &release{t: t, objects: objects}
	policies := all[*egv1a1.SecurityPolicy](r)
	if len(policies) != 2 {
		t.Fatal(policies)
	}
	for _, p := range policies {
		a := p.Spec.ExtAuth
		if a == nil || a.FailOpen == nil || *a.FailOpen || a.Timeout == nil || a.StatusOnError == nil || *a.StatusOnError != 503 || a.HeadersToExtAuth != nil {
			t.Errorf("%s: %+v", p.Name, a)
		}
	}
	grant := all[*gatewayv1beta1.ReferenceGrant](r)[0].Spec
	if grant.From[0].Kind != "SecurityPolicy" || string(grant.From[0].Namespace) != policies[0].Namespace {
		t.Errorf("the grant is not for the policies: %+v", grant)
	}
}

func TestGatewayAPIRoute(t *testing.T) {
	objects, _ := objectsOf(t, "gateway-api")
	r := &release{t: t, objects: objects}
	for _, route := range all[*gatewayv1.HTTPRoute](r) {
		for _, rule := range route.Spec.Rules {
			if !slices.ContainsFunc(rule.Filters, func(f gatewayv1.HTTPRouteFilter) bool {
				return f.Type == gatewayv1.HTTPRouteFilterExternalAuth && f.ExternalAuth != nil && f.ExternalAuth.ExternalAuthProtocol == gatewayv1.HTTPRouteExternalAuthGRPCProtocol
			}) {
				t.Errorf("a rule of %s is open", route.Name)
			}
		}
	}
}

func TestIstio(t *testing.T) {
	var values struct {
		MeshConfig map[string]any `json:"meshConfig"`
	}
	file := filepath.Join(examplesDir, "istio", "mesh.yaml")
	if err := yaml.UnmarshalStrict([]byte(readFile(t, file)), &values); err != nil {
		t.Fatal(err)
	}
	var mesh meshv1alpha1.MeshConfig
	readMessage(t, file, values.MeshConfig, &mesh)
	provider := mesh.GetExtensionProviders()[0]
	grpc := provider.GetEnvoyExtAuthzGrpc()
	if grpc.GetPort() != 9191 || grpc.GetFailOpen() || grpc.GetStatusOnError() != "503" || grpc.GetTimeout().AsDuration() <= 0 {
		t.Errorf("%v", grpc)
	}
	_, messages := objectsOf(t, "istio")
	found := false
	for _, m := range messages {
		if policy, ok := m.(*securityv1beta1.AuthorizationPolicy); ok {
			found = true
			if policy.GetAction() != securityv1beta1.AuthorizationPolicy_CUSTOM || policy.GetProvider().GetName() != provider.GetName() || len(policy.GetSelector().GetMatchLabels()) == 0 {
				t.Errorf("%v", policy)
			}
		}
	}
	if !found {
		t.Error("no AuthorizationPolicy")
	}
	config := load(t, all[*corev1.ConfigMap](render(t, readValues(t, filepath.Join(examplesDir, "istio", "values.yaml"))))[0].Data["extauthz.yaml"])
	if hops := mesh.GetDefaultConfig().GetGatewayTopology().GetNumTrustedProxies(); int(hops) != config.ClientAddress.TrustedHops {
		t.Errorf("the gateway trusts %d proxies and extauthz %d", hops, config.ClientAddress.TrustedHops)
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
