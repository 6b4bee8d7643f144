package cluster_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/examples/upstream/echo"
	"extauthz/polltest"
)

// The addresses of the table: PROXY protocol tells Envoy which of them is the connection's peer.
const (
	theClient = "203.0.113.7"
	theProxy  = "10.0.0.5"     // appends the client's address to x-forwarded-for
	invented  = "198.51.100.9" // what the caller writes there itself
	none      = "none"
)

// How a ClientTrafficPolicy says where the client's address is, each on a listener of its own.
var detections = []struct{ name, setting string }{
	{"none", ""},
	{"hops", "numTrustedHops: 1"},
	{"hops-no-append", "numTrustedHops: 1, disableXForwardedForAppend: true"},
	{"cidrs", "trustedCIDRs: [10.0.0.0/8]"},
	{"cidrs-no-append", "trustedCIDRs: [10.0.0.0/8], disableXForwardedForAppend: true"},
}

// The settings of extauthz, each of a server of its own, with what each detection makes of a request
// that comes through the proxy, in the order of detections; and of one that comes past it.
var settings = []struct {
	name, setting string
	through       [5]string
	past          string // "" where whoever reaches the gateway past the proxy can invent an address
}{
	{"peer", "{from: peer}", [5]string{theProxy, theProxy, theProxy, theProxy, theProxy}, theClient},
	{"hops", "{from: x_forwarded_for, trusted_hops: 1}", [5]string{theClient, theClient, none, theClient, none}, ""},
	{"hops-not-appended", "{from: x_forwarded_for, trusted_hops: 1, xff_appended: false}", [5]string{theProxy, theProxy, theClient, theProxy, theClient}, ""},
	{"proxies", "{from: x_forwarded_for, trusted_proxies: [10.0.0.0/8]}", [5]string{theClient, theClient, theClient, theClient, theClient}, theClient},
}

// The table of docs/kubernetes.md. No cell is an address that the caller invented.
func TestClientAddressTable(t *testing.T) {
	upstream := harness.StartUpstream(t)
	manifests := &strings.Builder{}
	manifests.WriteString(onThisMachine + backend(t, "upstream", upstream.Addr))
	manifests.WriteString("---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: api, namespace: apps}\nspec:\n  gatewayClassName: envoy\n  listeners:\n")
	var fronts []string
	for _, d := range detections {
		fronts = append(fronts, harness.FreeAddr(t))
		fmt.Fprintf(manifests, "    - {name: %s, protocol: HTTP, port: %d}\n", d.name, port(t, fronts[len(fronts)-1]))
	}
	for _, d := range detections {
		detection := ""
		if d.setting != "" {
			detection = "  clientIPDetection: {xForwardedFor: {" + d.setting + "}}\n"
		}
		fmt.Fprintf(manifests, "---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: %[1]s, namespace: apps}\nspec:\n"+
			"  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: api, sectionName: %[1]s}]\n  proxyProtocol: {}\n%[2]s", d.name, detection)
	}
	for _, s := range settings {
		server := harness.StartExtauthz(t, harness.Settings{Config: "client_address: " + s.setting, Keys: strings.Replace(gatewayKeys, "    ip_whitelist: [127.0.0.1]\n", "", 1)})
		manifests.WriteString(backend(t, s.name, server.Addr))
		fmt.Fprintf(manifests, "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: %[1]s, namespace: apps}\nspec:\n  parentRefs: [{name: api}]\n"+
			"  rules:\n    - matches: [{path: {type: PathPrefix, value: /%[1]s}}]\n      backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: upstream}]\n"+
			"---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata: {name: %[1]s, namespace: apps}\nspec:\n"+
			"  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: %[1]s}]\n"+
			"  extAuth: {grpc: {backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: %[1]s}]}, timeout: 5s}\n", s.name)
	}
	startGateway(t, map[string]string{"all.yaml": manifests.String()})
	for i, d := range detections {
		for _, s := range settings {
			found := func(peer, xff string) string { return addressFound(t, fronts[i], "/"+s.name, peer, xff) }
			polltest.Until(t, d.name+" serves "+s.name, func() bool { return found(theClient, invented) != "" })
			if got := found(theProxy, invented+", "+theClient); got != s.through[i] {
				t.Errorf("clientIPDetection %s, client_address %s, through the proxy: %q, want %q", d.name, s.name, got, s.through[i])
			}
			if got := found(theProxy, theClient); got == invented || s.through[i] == theClient && got != theClient {
				t.Errorf("clientIPDetection %s, client_address %s, through the proxy, nothing invented: %q", d.name, s.name, got)
			}
			for _, xff := range []string{invented, invented + ", " + theProxy, invented + ", " + theClient + ", " + theProxy} {
				if got := found(theClient, xff); s.past != "" && got != s.past {
					t.Errorf("clientIPDetection %s, client_address %s, past the proxy with %s: %q, want %q", d.name, s.name, xff, got, s.past)
				}
			}
		}
	}
}

// addressFound returns the client address that reaches the upstream, none where there is none, and ""
// where there is no answer yet.
func addressFound(t *testing.T, front, path, peer, xff string) string {
	t.Helper()
	code, body := request(t, front, path, "127.0.0.1", fmt.Appendf(nil, "PROXY TCP4 %s 192.0.2.1 40000 80\r\n", peer), "x-api-key", "demo_here", "x-forwarded-for", xff)
	var seen echo.Request
	if code != http.StatusOK || json.Unmarshal([]byte(body), &seen) != nil || seen.Headers["x-extauthz-key-id"] == nil {
		return ""
	}
	if values := seen.Headers["x-extauthz-client-address"]; len(values) == 1 {
		return values[0]
	}
	return none
}
