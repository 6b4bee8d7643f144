package cluster_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	egv1a1 "github.com/envoyproxy/gateway/api/v1alpha1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"extauthz/e2e/harness"
	"extauthz/polltest"
	"extauthz/proctest"
)

// The version of Envoy that scripts/envoy-gateway-requirements.txt pins.
const envoyVersion = "1.39.1"

// A gateway is an Envoy Gateway without a cluster: it reads manifests from a folder, and runs Envoy on
// this machine. Its own listeners have fixed ports, so only one runs at a time.
type gateway struct {
	*proctest.Process
	t         *testing.T
	resources string // the folder
}

// startGateway starts an Envoy Gateway over these manifests, by the name of their file.
func startGateway(t *testing.T, manifests map[string]string) *gateway {
	t.Helper()
	dir := t.TempDir()
	binary, envoy := tool(t, "envoy-gateway"), tool(t, "envoy-of-gateway")
	g := &gateway{t: t, resources: filepath.Join(dir, "resources")}
	bin := filepath.Join(dir, "data", "envoy-versions", envoyVersion, "bin")
	for _, folder := range []string{g.resources, bin} {
		if err := os.MkdirAll(folder, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(envoy, filepath.Join(bin, "envoy")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), binary, "certgen", "--local", "--config-home", filepath.Join(dir, "config")).CombinedOutput(); err != nil {
		t.Fatalf("certgen: %v\n%s", err, out)
	}
	for name, text := range manifests {
		g.write(name, text)
	}
	config := filepath.Join(dir, "envoy-gateway.yaml")
	writeFile(t, config, fmt.Sprintf(`
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyGateway
gateway: {controllerName: gateway.envoyproxy.io/gatewayclass-controller}
provider:
  type: Custom
  custom:
    resource: {type: File, file: {paths: [%q]}}
    infrastructure:
      type: Host
      host: {configHome: %[2]q, dataHome: %[3]q, stateHome: %[4]q, runtimeDir: %[5]q}
extensionApis: {enableBackend: true}
`, g.resources, filepath.Join(dir, "config"), filepath.Join(dir, "data"), filepath.Join(dir, "state"), filepath.Join(dir, "run")))
	g.Process = proctest.Start(t, "envoy-gateway", exec.Command(binary, "server", "--config-path", config), nil)
	t.Cleanup(func() { g.Stop() }) // with its Envoy
	return g
}

// write replaces a manifest in the folder.
func (g *gateway) write(name, text string) {
	g.t.Helper()
	writeFile(g.t, filepath.Join(g.resources, name), text)
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(harness.Root(t), ".tools", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no .tools/%s: run `make test-cluster`, which gets it (%v)", name, err)
	}
	return path
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// onThisMachine is the class of gateways, whose Envoy runs here and logs what it knows of decisions.
const onThisMachine = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: envoy}
spec:
  controllerName: gateway.envoyproxy.io/gatewayclass-controller
  parametersRef: {group: gateway.envoyproxy.io, kind: EnvoyProxy, name: host, namespace: apps}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyProxy
metadata: {name: host, namespace: apps}
spec:
  provider: {type: Host, host: {envoyVersion: ` + envoyVersion + `}}
  telemetry:
    accessLog:
      settings:
        - format:
            type: Text
            text: "metadata of the filter: %DYNAMIC_METADATA(envoy.filters.http.ext_authz//apps/api:code)% %DYNAMIC_METADATA(envoy.filters.http.ext_authz//apps/api)% usual: %DYNAMIC_METADATA(envoy.filters.http.ext_authz:code)% %DYNAMIC_METADATA(envoy.filters.http.ext_authz)%\n"
          sinks: [{type: File, file: {path: /dev/stdout}}]
`

// backend is a Backend at this address, host:port.
func backend(t *testing.T, name, address string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: Backend\nmetadata: {name: %s, namespace: apps}\nspec:\n  endpoints: [{ip: {address: %s, port: %s}}]\n", name, host, port)
}

// examplePolicies are the manifests of examples/envoy-gateway, with the listener on this address, and
// Backends in place of Services.
func examplePolicies(t *testing.T, address string) (gateway, policies string) {
	t.Helper()
	to := func(name string) gatewayv1.BackendObjectReference {
		group, kind := gatewayv1.Group("gateway.envoyproxy.io"), gatewayv1.Kind("Backend")
		return gatewayv1.BackendObjectReference{Group: &group, Kind: &kind, Name: gatewayv1.ObjectName(name)}
	}
	marshal := func(o runtime.Object) string {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			t.Fatal(err)
		}
		delete(content, "status") // the empty one is not valid
		text, err := yaml.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		return "---\n" + string(text)
	}
	objects, _ := objectsOf(t, "envoy-gateway")
	for _, o := range objects {
		switch o := o.(type) {
		case *gatewayv1.Gateway:
			o.Spec.Listeners[0].Port = gatewayv1.PortNumber(port(t, address))
			gateway += marshal(o)
		case *gatewayv1.HTTPRoute:
			o.Spec.Rules[0].BackendRefs[0].BackendObjectReference = to("upstream")
			gateway += marshal(o)
		case *egv1a1.SecurityPolicy:
			o.Spec.ExtAuth.GRPC.BackendRefs[0].BackendObjectReference = to("extauthz")
			policies += marshal(o)
		}
	}
	return gateway, policies
}

func port(t *testing.T, address string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const gatewayKeys = `
keys:
  - id: key_here # secret: demo_here
    hash: ce6d8d932741a7f60984c13ac3e25a0a96397e54f440e8ae672249c353f4bec6
    ip_whitelist: [127.0.0.1]
`

// The policies of examples/envoy-gateway, through Envoy Gateway.
func TestEnvoyGateway(t *testing.T) {
	upstream := harness.StartUpstream(t)
	extauthz := harness.StartExtauthz(t, harness.Settings{Keys: gatewayKeys})
	front := harness.FreeAddr(t)
	example, policies := examplePolicies(t, front)
	g := startGateway(t, map[string]string{
		"gateway.yaml":  onThisMachine + example + backend(t, "upstream", upstream.Addr) + backend(t, "extauthz", extauthz.Addr),
		"policies.yaml": policies,
	})
	status := func(path, from, secret string, headers ...string) (int, string) {
		return request(t, front, path, from, nil, append(headers, "x-api-key", secret)...)
	}
	polltest.Until(t, "the gateway serves, and checks", func() bool {
		code, _ := status("/", "127.0.0.1", "demo_here")
		unknown, _ := status("/", "127.0.0.1", "unknown")
		return code == http.StatusOK && unknown == http.StatusUnauthorized
	})
	expect := func(path, from, secret string, want int, body string, headers ...string) {
		t.Helper()
		if code, text := status(path, from, secret, headers...); code != want || !strings.Contains(text, body) {
			t.Errorf("%s from %s: %d %s, want %d %s", path, from, code, text, want, body)
		}
	}
	expect("/", "127.0.0.1", "demo_here", 200, `"x-extauthz-client-address"`)
	expect("/", "127.0.0.2", "demo_here", 403, `"FORBIDDEN"`)
	expect("/", "127.0.0.2", "demo_here", 403, `"FORBIDDEN"`, "x-forwarded-for", "127.0.0.1")
	expect("/", "127.0.0.1", "unknown", 401, `"NOT_FOUND"`)
	expect("/admin", "127.0.0.1", "demo_here", 403, `"INSUFFICIENT_PERMISSIONS"`)
	expect("/admin", "127.0.0.2", "demo_here", 403, `"FORBIDDEN"`)
	// Envoy Gateway names the filter after the policy. The metadata has the usual name all the same.
	const filter = "envoy.filters.http.ext_authz//apps/api"
	if dump := configDump(t, filepath.Dir(g.resources)); !strings.Contains(dump, `"name": "`+filter+`"`) {
		t.Errorf("Envoy has no filter %s: %q", filter, regexp.MustCompile(`[^"]*ext_authz[^"]*`).FindAllString(dump, 20))
	}
	polltest.Until(t, "the access log has the dynamic metadata, under the usual name and not under the filter's", func() bool {
		return strings.Contains(g.Log(), `metadata of the filter: - - usual: FORBIDDEN {`)
	})

	g.write("policies.yaml", strings.Replace(policies, "value: admin", "value: documents.read OR reports", 1))
	extauthz.WriteKeys(t, strings.TrimRight(gatewayKeys, "\n")+"\n    permissions: [reports]\n")
	polltest.Until(t, "the changed policy and key are live", func() bool {
		code, _ := status("/admin", "127.0.0.1", "demo_here")
		return code == http.StatusOK
	})

	extauthz.Kill()
	upstream.Forget()
	expect("/", "127.0.0.1", "demo_here", 503, "")
	expect("/admin", "127.0.0.1", "demo_here", 503, "")
	if len(upstream.Seen()) != 0 {
		t.Error("a request came through without a check")
	}
}

// configDump returns the configuration of the Envoy that Envoy Gateway runs with its files in the folder.
func configDump(t *testing.T, dir string) string {
	t.Helper()
	address := ""
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "admin-address.txt" {
			text, err := os.ReadFile(path)
			address = strings.TrimSpace(string(text))
			return err
		}
		return err
	})
	if err != nil || address == "" {
		t.Fatalf("Envoy's admin interface is at %q (%v)", address, err)
	}
	_, text := request(t, address, "/config_dump", "127.0.0.1", nil)
	return text
}

// request sends a GET from a loopback address, and returns the status and the body. before is what the
// connection starts with. headers are names and values in turn.
func request(t *testing.T, address, path, from string, before []byte, headers ...string) (int, string) {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	client := http.Client{Timeout: polltest.Patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err == nil && len(before) > 0 {
				_, err = conn.Write(before)
			}
			return conn, err
		},
	}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	response, err := client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(body)
}
