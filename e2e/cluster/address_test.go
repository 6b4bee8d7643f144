package cluster_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
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
var detections = []struct {
	name, setting string
	appends       bool // Envoy appends the peer to x-forwarded-for
}{
	{"none", "", true},
	{"hops", "xForwardedFor: {numTrustedHops: 1}", true},
	{"hops-no-append", "xForwardedFor: {numTrustedHops: 1, disableXForwardedForAppend: true}", false},
	{"cidrs", "xForwardedFor: {trustedCIDRs: [10.0.0.0/8, '2001:db8:5::/48']}", true},
	{"cidrs-no-append", "xForwardedFor: {trustedCIDRs: [10.0.0.0/8, '2001:db8:5::/48'], disableXForwardedForAppend: true}", false},
	{"header", "customHeader: {name: x-client-ip}", false},
}

// The settings of extauthz, each of a server of its own, with what each detection makes of a request
// that comes through the proxy, in the order of detections; and of one that comes past it.
var settings = []struct {
	name, setting string
	through       [6]string
	past          string // "" where whoever reaches the gateway past the proxy can invent an address
}{
	{"peer", "{from: peer}", [6]string{theProxy, theProxy, theProxy, theProxy, theProxy, theProxy}, theClient},
	{"hops", "{from: x_forwarded_for, trusted_hops: 1}", [6]string{theClient, theClient, none, theClient, none, none}, ""},
	{"hops-not-appended", "{from: x_forwarded_for, trusted_hops: 1, xff_appended: false}", [6]string{theProxy, theProxy, theClient, theProxy, theClient, theClient}, ""},
	{"proxies", "{from: x_forwarded_for, trusted_proxies: [10.0.0.0/8, {file: %q}]}", [6]string{theClient, theClient, theClient, theClient, theClient, theClient}, theClient},
	{"header", "{from: header, header: x-client-ip, trusted_proxies: [10.0.0.0/8, {file: %q}]}", [6]string{theClient, theClient, theClient, theClient, theClient, theClient}, none},
}

// The table of docs/kubernetes.md. No cell is an address that the caller invented.
func TestClientAddressTable(t *testing.T) {
	ranges := filepath.Join(t.TempDir(), "ranges.txt")
	writeFile(t, ranges, theProxies6+"\n")
	fronts := startTable(t, ranges)
	for i, d := range detections {
		for _, s := range settings {
			found := func(peer, xff, clientIP string) string {
				return addressFound(t, fronts[i], "/"+s.name, peer, "x-forwarded-for", xff, "x-client-ip", clientIP)
			}
			polltest.Until(t, d.name+" serves "+s.name, func() bool { return found(theClient, invented, invented) != "" })
			if got := found(theProxy, invented+", "+theClient, theClient); got != s.through[i] {
				t.Errorf("clientIPDetection %s, client_address %s, through the proxy: %q, want %q", d.name, s.name, got, s.through[i])
			}
			if got := found(theProxy, theClient, theClient); got == invented || s.through[i] == theClient && got != theClient {
				t.Errorf("clientIPDetection %s, client_address %s, through the proxy, nothing invented: %q", d.name, s.name, got)
			}
			for _, xff := range []string{invented, invented + ", " + theProxy, invented + ", " + theClient + ", " + theProxy} {
				if got := found(theClient, xff, invented); s.past != "" && got != s.past {
					t.Errorf("clientIPDetection %s, client_address %s, past the proxy with %s: %q, want %q", d.name, s.name, xff, got, s.past)
				}
			}
		}
		testRequests(t, fronts[i], d.name, d.appends)
	}
	// An IPv6 proxy that is no longer in the file of ranges is a client.
	writeFile(t, ranges, "2001:db8:9::/48\n")
	for setting, want := range map[string]string{"proxies": theProxy6, "header": none} {
		polltest.Until(t, setting+" reads the file of ranges again", func() bool {
			return addressFound(t, fronts[0], "/"+setting, theProxy6, "x-forwarded-for", invented, "x-client-ip", invented) == want
		})
	}
}

// startTable starts an Envoy Gateway with a listener for each detection, and a server and a route for each
// setting. It returns the addresses of the listeners.
func startTable(t *testing.T, ranges string) (fronts []string) {
	t.Helper()
	upstream := harness.StartUpstream(t)
	manifests := &strings.Builder{}
	manifests.WriteString(onThisMachine + backend(t, "upstream", upstream.Addr))
	manifests.WriteString("---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: api, namespace: apps}\nspec:\n  gatewayClassName: envoy\n  listeners:\n")
	for _, d := range detections {
		fronts = append(fronts, harness.FreeAddr(t))
		fmt.Fprintf(manifests, "    - {name: %s, protocol: HTTP, port: %d}\n", d.name, port(t, fronts[len(fronts)-1]))
	}
	for _, d := range detections {
		detection := ""
		if d.setting != "" {
			detection = "  clientIPDetection: {" + d.setting + "}\n"
		}
		fmt.Fprintf(manifests, "---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: %[1]s, namespace: apps}\nspec:\n"+
			"  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: api, sectionName: %[1]s}]\n  proxyProtocol: {}\n%[2]s", d.name, detection)
	}
	for _, s := range settings {
		setting := strings.Replace(s.setting, "%q", strconv.Quote(ranges), 1)
		server := harness.StartExtauthz(t, harness.Settings{Config: "client_address: " + setting, Keys: strings.Replace(gatewayKeys, "    ip_whitelist: [127.0.0.1]\n", "", 1)})
		manifests.WriteString(backend(t, s.name, server.Addr))
		fmt.Fprintf(manifests, "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: %[1]s, namespace: apps}\nspec:\n  parentRefs: [{name: api}]\n"+
			"  rules:\n    - matches: [{path: {type: PathPrefix, value: /%[1]s}}]\n      backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: upstream}]\n"+
			"---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata: {name: %[1]s, namespace: apps}\nspec:\n"+
			"  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: %[1]s}]\n"+
			"  extAuth: {grpc: {backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: %[1]s}]}, timeout: 5s}\n", s.name)
	}
	startGateway(t, map[string]string{"all.yaml": manifests.String()})
	return fronts
}

// addressFound returns the client address that reaches the upstream, none where there is none, and ""
// where there is no answer yet. headers are names and values in turn.
func addressFound(t *testing.T, front, path, peer string, headers ...string) string {
	t.Helper()
	proxy := "PROXY TCP4 " + peer + " 192.0.2.1 40000 80\r\n"
	if strings.Contains(peer, ":") {
		proxy = "PROXY TCP6 " + peer + " 2001:db8::1 40000 80\r\n"
	}
	// What no setting reads.
	headers = append(headers, "x-api-key", "demo_here", "x-real-ip", invented, "true-client-ip", invented,
		"x-envoy-external-address", invented, "forwarded", "for="+invented)
	code, body := request(t, front, path, "127.0.0.1", []byte(proxy), headers...)
	var seen echo.Request
	if code != http.StatusOK || json.Unmarshal([]byte(body), &seen) != nil || seen.Headers["x-extauthz-key-id"] == nil {
		return ""
	}
	if values := seen.Headers["x-extauthz-client-address"]; len(values) == 1 {
		return values[0]
	}
	return none
}
