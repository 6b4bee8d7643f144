// Package istio_test holds examples/istio against what Istio's pilot makes of it for a gateway's Envoy.
// It is a module of its own: pilot is no dependency of the product.
package istio_test

import (
	"os"
	"path/filepath"
	"testing"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/networking/core"
	"istio.io/istio/pkg/config/mesh"
	"sigs.k8s.io/yaml"

	"extauthz/e2e/harness"
)

// gateway is what a cluster has beside the example: a gateway with a route, and the services.
const gateway = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: extauthz, namespace: extauthz}
spec:
  hosts: [extauthz.extauthz.svc.cluster.local]
  ports: [{number: 9191, name: grpc, protocol: GRPC}]
  resolution: STATIC
  location: MESH_INTERNAL
  endpoints: [{address: 192.0.2.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: upstream, namespace: istio-system}
spec:
  hosts: [upstream.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  location: MESH_INTERNAL
  endpoints: [{address: 192.0.2.2}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: istio-system}
spec:
  hosts: ["*"]
  gateways: [public]
  http: [{route: [{destination: {host: upstream.example.com, port: {number: 80}}}]}]
---
`

func example(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "examples", "istio", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// meshOf returns the mesh configuration of a file of values.
func meshOf(t *testing.T, values string) *meshconfig.MeshConfig {
	t.Helper()
	var v struct{ MeshConfig map[string]any }
	if err := yaml.UnmarshalStrict([]byte(values), &v); err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(v.MeshConfig)
	if err != nil {
		t.Fatal(err)
	}
	m, err := mesh.ApplyMeshConfigDefaults(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// listenersOf returns the listeners that pilot sends to a gateway's Envoy.
func listenersOf(t *testing.T, m *meshconfig.MeshConfig, configs string) []*listener.Listener {
	t.Helper()
	pilot := core.NewConfigGenTest(t, core.TestOptions{ConfigString: configs, MeshConfig: m})
	labels := map[string]string{"istio": "ingressgateway"}
	proxy := pilot.SetupProxy(&model.Proxy{
		Type: model.Router, Labels: labels, ConfigNamespace: "istio-system",
		Metadata: &model.NodeMetadata{Namespace: "istio-system", Labels: labels, ProxyConfig: (*model.NodeMetaProxyConfig)(m.DefaultConfig)},
	})
	return pilot.Listeners(proxy)
}
