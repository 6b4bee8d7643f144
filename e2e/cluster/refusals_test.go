package cluster_test

import (
	"fmt"
	"strings"
)

// privileged is a container that the Pod Security Standard "restricted" does not allow.
const privileged = `{name: a, image: a, securityContext: {privileged: true}}`

// deployment is one that is restricted, with this selector.
const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: selector}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers: [{name: a, image: a, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]
`

// testRefusals holds that what TestApply sees accepted could be refused: in every way in which it says it could.
func (s *apiServer) testRefusals() {
	t := s.t
	const namespace = "refusals"
	s.createNamespace(namespace)
	if _, err := s.apply(fmt.Appendf(nil, deployment, "a"), namespace); err != nil || len(s.warnings.take()) > 0 {
		t.Fatalf("a Deployment that is restricted: %v, or a warning", err)
	}
	s.mustApply("apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: %s}\nspec: {ports: [{port: 1}]}\n", namespace)
	for _, refused := range []struct{ name, manifest, reason string }{
		{"unknown field", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndatum: {}\n", "datum"},
		{"unknown field of a template", strings.Replace(fmt.Sprintf(deployment, "a"), "runAsNonRoot", "runsAsNonRoot", 1), "runsAsNonRoot"},
		{"repeated field", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: b}\ndata: {a: c}\n", "data"},
		{"privileged pod", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [" + privileged + "]}\n", "violates PodSecurity"},
		{"changed selector", fmt.Sprintf(deployment, "b"), "immutable"},
		{"changed headless", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: None, ports: [{port: 1}]}\n", "clusterIP"},
		{"service account that is not there", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {serviceAccountName: b, containers: [{name: a, image: a}]}\n", "serviceaccount"},
		{"unknown field of a custom resource", "apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nmetadata: {name: a}\nspec: {selector: {}, endpoints: [], endpoint: []}\n", "endpoint"},
		{"rule in CEL", "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: a}\nspec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: a}], clientIPDetection: {xForwardedFor: {numTrustedHops: 1, trustedCIDRs: [10.0.0.0/8]}}}\n", "numTrustedHops"},
		{"Istio's schema", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {action: CUSTOMS}\n", "CUSTOM"},
	} {
		if _, err := s.apply([]byte(refused.manifest), namespace); err == nil || !strings.Contains(err.Error(), refused.reason) {
			t.Errorf("%s: %v, want a refusal because of %q", refused.name, err, refused.reason)
		}
	}
	s.warnings.take()

	// The API server stores a Deployment whose pods it will refuse, with a warning.
	const other = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: privileged}\nspec:\n  selector: {matchLabels: {a: b}}\n" +
		"  template: {metadata: {labels: {a: b}}, spec: {containers: [" + privileged + "]}}\n"
	applied, err := s.apply([]byte(other), namespace)
	if err != nil {
		t.Fatal(err)
	}
	if list := s.warnings.take(); len(list) == 0 || !strings.Contains(list[0], "PodSecurity") {
		t.Errorf("warnings: %q, want one of PodSecurity", list)
	}
	if err := s.createPod(applied); err == nil || !strings.Contains(err.Error(), "violates PodSecurity") {
		t.Errorf("a pod of a privileged template: %v", err)
	}
}
