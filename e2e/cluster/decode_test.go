package cluster_test

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"

	egv1a1 "github.com/envoyproxy/gateway/api/v1alpha1"
	contourv1 "github.com/projectcontour/contour/apis/projectcontour/v1"
	contourv1alpha1 "github.com/projectcontour/contour/apis/projectcontour/v1alpha1"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	"sigs.k8s.io/yaml"
)

// known has the types that manifests are read into.
var known = func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, policyv1.AddToScheme, autoscalingv2.AddToScheme,
		networkingv1.AddToScheme, monitoringv1.AddToScheme, gatewayv1.Install, gatewayv1beta1.Install, egv1a1.AddToScheme,
		contourv1.AddToScheme, contourv1alpha1.AddToScheme,
	} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return s
}()

// documents returns the YAML documents of a file that hold anything.
func documents(t *testing.T, name, text string) (docs [][]byte) {
	t.Helper()
	reader := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var content any
		if err := yaml.Unmarshal(doc, &content); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, doc)
		}
		if content != nil {
			docs = append(docs, doc)
		}
	}
}

// kindOf returns what a document says it is.
func kindOf(t *testing.T, name string, doc []byte) schema.GroupVersionKind {
	t.Helper()
	var of metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &of); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return of.GroupVersionKind()
}

// decode reads each manifest strictly into its own type: an unknown or repeated field is an error.
func decode(t *testing.T, name, text string) (objects []runtime.Object) {
	t.Helper()
	for _, doc := range documents(t, name, text) {
		objects = append(objects, decodeOne(t, name, doc))
	}
	return objects
}

func decodeOne(t *testing.T, name string, doc []byte) runtime.Object {
	t.Helper()
	kind := kindOf(t, name, doc)
	object, err := known.New(kind)
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, doc)
	}
	if err := yaml.UnmarshalStrict(doc, object); err != nil {
		t.Errorf("%s: %s: %v\n%s", name, kind.Kind, err, doc)
	}
	return object
}

func meta(t *testing.T, o runtime.Object) metav1.Object {
	t.Helper()
	m, err := apimeta.Accessor(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The decoder is as strict as the tests need.
func TestDecodeIsStrict(t *testing.T) {
	for _, doc := range []string{
		"apiVersion: v1\nkind: Pod\nspec: {container: []}\n",
		"apiVersion: v1\nkind: Pod\nspec: {hostNetwork: true, hostNetwork: false}\n",
		"apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nspec: {endpoint: []}\n",
		"apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nspec: {extAuth: {grpcs: {}}}\n",
		"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nspec: {rules: [{filters: [{type: ExternalAuth, externalAuths: {}}]}]}\n",
	} {
		object, err := known.New(kindOf(t, "test", []byte(doc)))
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict([]byte(doc), object); err == nil {
			t.Errorf("no error for\n%s", doc)
		}
	}
}
