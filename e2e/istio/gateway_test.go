package istio_test

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"

	"extauthz/e2e/harness"
	"extauthz/polltest"
)

// managerOf returns the HTTP connection manager of the one listener.
func managerOf(t *testing.T, values, configs string) *hcmv3.HttpConnectionManager {
	t.Helper()
	listeners := listenersOf(t, meshOf(t, values), configs)
	if len(listeners) != 1 {
		t.Fatalf("%d listeners", len(listeners))
	}
	manager := &hcmv3.HttpConnectionManager{}
	if err := listeners[0].GetFilterChains()[0].GetFilters()[0].GetTypedConfig().UnmarshalTo(manager); err != nil {
		t.Fatal(err)
	}
	return manager
}

// filterOf returns the ext_authz filter, and fails the test unless there is exactly one.
func filterOf(t *testing.T, manager *hcmv3.HttpConnectionManager) *extauthzv3.ExtAuthz {
	t.Helper()
	var found []*extauthzv3.ExtAuthz
	for _, f := range manager.GetHttpFilters() {
		filter := &extauthzv3.ExtAuthz{}
		if f.GetTypedConfig().MessageIs(filter) {
			if err := f.GetTypedConfig().UnmarshalTo(filter); err != nil {
				t.Fatal(err)
			}
			found = append(found, filter)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d filters for ext_authz", len(found))
	}
	return found[0]
}

// TestFilter compares the filter that pilot generates with what examples/istio and docs/kubernetes.md say.
func TestFilter(t *testing.T) {
	manager := managerOf(t, example(t, "mesh.yaml"), gateway+example(t, "policy.yaml"))
	filter := filterOf(t, manager)
	if cluster := filter.GetGrpcService().GetEnvoyGrpc().GetClusterName(); cluster != authzCluster {
		t.Errorf("it asks %s", cluster)
	}
	if d := filter.GetGrpcService().GetTimeout().AsDuration(); d != 500*time.Millisecond {
		t.Errorf("the timeout is %s", d)
	}
	if filter.GetFailureModeAllow() || filter.GetStatusOnError().GetCode() != 503 || filter.GetTransportApiVersion() != corev3.ApiVersion_V3 {
		t.Errorf("on an error: %v", filter)
	}
	if filter.GetAllowedHeaders() != nil || filter.GetDisallowedHeaders() != nil || filter.GetWithRequestBody() != nil || filter.GetClearRouteCache() {
		t.Errorf("not all headers are sent, or more than headers: %v", filter)
	}
	if !manager.GetUseRemoteAddress().GetValue() || manager.GetXffNumTrustedHops() != 1 || manager.GetSkipXffAppend() {
		t.Errorf("use_remote_address %v, xff_num_trusted_hops %d, skip_xff_append %t", manager.GetUseRemoteAddress(), manager.GetXffNumTrustedHops(), manager.GetSkipXffAppend())
	}
}

// TestDefaults is what docs/kubernetes.md warns of: what pilot writes where a provider says nothing.
func TestDefaults(t *testing.T) {
	lines := strings.Split(example(t, "mesh.yaml"), "\n")
	bare := strings.Join(slices.DeleteFunc(lines, func(line string) bool {
		return strings.Contains(line, "timeout:") || strings.Contains(line, "failOpen:") || strings.Contains(line, "statusOnError:") || strings.Contains(line, "numTrustedProxies")
	}), "\n")
	manager := managerOf(t, bare, gateway+example(t, "policy.yaml"))
	filter := filterOf(t, manager)
	if d := filter.GetGrpcService().GetTimeout().AsDuration(); d != 600*time.Second || filter.GetFailureModeAllow() {
		t.Errorf("timeout %s, fail open %t", d, filter.GetFailureModeAllow())
	}
	if code := filter.GetStatusOnError().GetCode(); code != 0 && code != 403 {
		t.Errorf("the status on an error is %v", code) // 0 is Envoy's own default, 403
	}
	if manager.GetXffNumTrustedHops() != 0 || !manager.GetUseRemoteAddress().GetValue() {
		t.Errorf("%d trusted hops, use_remote_address %v", manager.GetXffNumTrustedHops(), manager.GetUseRemoteAddress())
	}
	if n := len(managerOf(t, bare, gateway).GetHttpFilters()); n != len(manager.GetHttpFilters())-2 {
		t.Errorf("without the policy there are %d filters: a gateway without it must check nothing", n)
	}
}

const authzCluster = "outbound|9191||extauthz.extauthz.svc.cluster.local"

// bootstrap returns a configuration of a stock Envoy with the manager that pilot made. Istio's own filters,
// which a stock Envoy does not have, are left out, and so are tracing, its access log, and the discovery
// services: the clusters and the route are those of this test.
func bootstrap(t *testing.T, manager *hcmv3.HttpConnectionManager, extauthz, upstream string) string {
	t.Helper()
	manager.HttpFilters = slices.DeleteFunc(manager.GetHttpFilters(), func(f *hcmv3.HttpFilter) bool {
		return strings.HasPrefix(f.GetName(), "istio.")
	})
	manager.Tracing, manager.AccessLog = nil, nil
	manager.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
		VirtualHosts: []*routev3.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "upstream"}}},
		}}}},
	}}
	config, err := anypb.New(manager)
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	cluster := func(name, address, options string) string {
		return fmt.Sprintf(`    - name: %q
      load_assignment: {cluster_name: %[1]q, endpoints: [{lb_endpoints: [{endpoint: {address: %s}}]}]}
%s`, name, harness.EnvoyAddress(t, address), options)
	}
	return fmt.Sprintf(`static_resources:
  listeners:
    - name: gateway
      address: {socket_address: {address: 127.0.0.1, port_value: 0}}
      filter_chains: [{filters: [{name: envoy.filters.network.http_connection_manager, typed_config: %s}]}]
  clusters:
%s%s`, text, cluster("upstream", upstream, ""), cluster(authzCluster, extauthz, `      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}
`))
}

const keys = `
keys:
  - id: key_client # secret: demo_here
    hash: ce6d8d932741a7f60984c13ac3e25a0a96397e54f440e8ae672249c353f4bec6
    ip_whitelist: [198.51.100.9]
`

// status sends a request from an address of the loopback network, and returns its status.
func status(t *testing.T, front, from, path string, forwarded ...string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+front+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("x-api-key", "demo_here")
	if len(forwarded) > 0 {
		r.Header.Set("x-forwarded-for", strings.Join(forwarded, ", "))
	}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	client := http.Client{Timeout: polltest.Patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestPeer is a gateway to which clients connect: no proxy is trusted, and the peer counts.
func TestPeer(t *testing.T) {
	upstream := harness.StartUpstream(t)
	extauthz := harness.StartExtauthz(t, harness.Settings{
		Keys: strings.Replace(keys, "198.51.100.9", "127.0.0.1", 1), Config: "client_address: {from: peer}",
	})
	values := strings.Replace(example(t, "mesh.yaml"), "numTrustedProxies: 1", "numTrustedProxies: 0", 1)
	manager := managerOf(t, values, gateway+example(t, "policy.yaml"))
	front := harness.StartEnvoy(t, bootstrap(t, manager, extauthz.Addr, upstream.Addr)).Addr("gateway")
	for _, c := range []struct {
		from      string
		forwarded []string
		want      int
	}{
		{"127.0.0.1", nil, 200},
		{"127.0.0.1", []string{"203.0.113.7"}, 200},
		{"127.0.0.2", nil, 403},
		{"127.0.0.2", []string{"127.0.0.1"}, 403},
	} {
		if got := status(t, front, c.from, "/", c.forwarded...); got != c.want {
			t.Errorf("from %s with x-forwarded-for %v: %d, want %d", c.from, c.forwarded, got, c.want)
		}
	}
}

// TestThroughEnvoy runs what pilot made of the example in a stock Envoy, with extauthz configured as the
// example's values say, behind one load balancer.
func TestThroughEnvoy(t *testing.T) {
	var values struct{ Config map[string]any }
	if err := yaml.Unmarshal([]byte(example(t, "values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	config, err := yaml.Marshal(values.Config)
	if err != nil {
		t.Fatal(err)
	}
	upstream := harness.StartUpstream(t)
	extauthz := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: string(config)})
	manager := managerOf(t, example(t, "mesh.yaml"), gateway+example(t, "policy.yaml"))
	envoy := harness.StartEnvoy(t, bootstrap(t, manager, extauthz.Addr, upstream.Addr))
	front := envoy.Addr("gateway")
	get := func(path string, forwarded ...string) int { return status(t, front, "127.0.0.1", path, forwarded...) }
	for _, c := range []struct {
		path      string
		forwarded []string
		want      int
	}{
		{"/", []string{"198.51.100.9"}, 200},                // what the load balancer saw
		{"/", []string{"198.51.100.9", "203.0.113.7"}, 403}, // what the caller made up, and what it saw
		{"/", []string{"203.0.113.7", "198.51.100.9"}, 200},
		{"/", nil, 403}, // not through the load balancer
		{"/admin/users", []string{"198.51.100.9"}, 403},
	} {
		if got := get(c.path, c.forwarded...); got != c.want {
			t.Errorf("%s with x-forwarded-for %v: %d, want %d", c.path, c.forwarded, got, c.want)
		}
	}
	extauthz.Kill()
	upstream.Forget()
	if got := get("/", "198.51.100.9"); got != http.StatusServiceUnavailable || len(upstream.Seen()) > 0 {
		t.Errorf("without extauthz: %d, and the upstream saw %d requests", got, len(upstream.Seen()))
	}
}
