package harness_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/examples/upstream/echo"
)

const throughEnvoy = `
static_resources:
  listeners:
    - name: front
      address: {socket_address: {address: 127.0.0.1, port_value: 0}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: front
                route_config:
                  virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: upstream}}]}]
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
    - name: upstream
      load_assignment: {cluster_name: upstream, endpoints: [{lb_endpoints: [{endpoint: {address: %s}}]}]}
`

func TestEnvoyReachesTheUpstream(t *testing.T) {
	upstream := harness.StartUpstream(t)
	envoy := harness.StartEnvoy(t, fmt.Sprintf(throughEnvoy, harness.EnvoyAddress(t, upstream.Addr)))

	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+envoy.Addr("front")+"/a?b=%20", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header["X-Twice"] = []string{"1", "2"}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got echo.Request
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if got.Method != "POST" || got.Path != "/a?b=%20" || got.Body != "body" || fmt.Sprint(got.Headers["x-twice"]) != "[1 2]" {
		t.Errorf("the upstream received %+v", got)
	}
	if seen := upstream.Seen(); len(seen) != 1 || seen[0].Path != got.Path {
		t.Errorf("the upstream recorded %+v", seen)
	}
	if n := envoy.Stat("cluster.upstream.upstream_rq_total"); n != 1 {
		t.Errorf("Envoy counts %d requests to the upstream, want 1", n)
	}
	if code := envoy.Stop(); code != 0 {
		t.Errorf("Envoy ended with %d", code)
	}
}

func TestBadEnvoyConfigurationIsTold(t *testing.T) {
	if err := harness.ValidateEnvoy(t, fmt.Sprintf(throughEnvoy, "{pipe: {path: /nowhere}}")); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
	if err := harness.ValidateEnvoy(t, "static_resources: {listenerz: []}"); err == nil || !strings.Contains(err.Error(), "listenerz") {
		t.Errorf("a bad configuration: got %v, want an error that names the field", err)
	}
}
