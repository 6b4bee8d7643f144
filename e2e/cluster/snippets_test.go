package cluster_test

import (
	"slices"
	"strings"
	"testing"

	contourv1 "github.com/projectcontour/contour/apis/projectcontour/v1"
	contourv1alpha1 "github.com/projectcontour/contour/apis/projectcontour/v1alpha1"
)

// snippets returns the manifests of a section of docs/kubernetes.md.
func snippets(t *testing.T, section string) (docs [][]byte) {
	t.Helper()
	_, text, found := strings.Cut(readFile(t, "../../docs/kubernetes.md"), "\n## "+section+"\n")
	if !found {
		t.Fatalf("docs/kubernetes.md has no section %s", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for i, part := range strings.Split(text, "```") {
		if manifests, ok := strings.CutPrefix(part, "yaml\n"); ok && i%2 == 1 {
			docs = append(docs, documents(t, section, manifests)...)
		}
	}
	return docs
}

// The snippet for Contour is what Contour's own types and definitions allow, and does not fail open.
func TestContourSnippet(t *testing.T) {
	known := definitions(t)
	kinds := []string{}
	for _, doc := range snippets(t, "kgateway and Contour") {
		kind := kindOf(t, "Contour", doc)
		if d, ok := known[kind]; ok {
			for _, problem := range d.problems(t, doc) {
				t.Errorf("%s: %s", kind.Kind, problem)
			}
		}
		if kind.Group == "gateway.kgateway.dev" { // no module has its types
			continue
		}
		kinds = append(kinds, kind.Kind)
		switch o := decodeOne(t, "docs/kubernetes.md", doc).(type) {
		case *contourv1alpha1.ExtensionService:
			if o.Spec.Protocol == nil || *o.Spec.Protocol != "h2c" || o.Spec.Services[0].Port != 9191 {
				t.Errorf("%+v", o.Spec)
			}
		case *contourv1.HTTPProxy:
			a := o.Spec.VirtualHost.Authorization
			if a == nil || a.FailOpen || a.ResponseTimeout == "" || a.ExtensionServiceRef.Name != "extauthz" || a.AuthPolicy.Disabled || o.Spec.VirtualHost.TLS == nil {
				t.Errorf("%+v", o.Spec.VirtualHost)
			}
		}
	}
	if want := []string{"ReferenceGrant", "ExtensionService", "HTTPProxy"}; !slices.Equal(kinds, want) {
		t.Errorf("the section has %v, want %v", kinds, want)
	}
}
