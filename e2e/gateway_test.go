// Package e2e_test tests the real binary with a real Envoy.
package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"extauthz/e2e/harness"
	"extauthz/examples/upstream/echo"
	"extauthz/keystore"
)

// A gateway is an Envoy in front of an upstream, with extauthz.
type gateway struct {
	Servers          []string // addresses of extauthz; host:port or unix:PATH
	Upstream         string
	UpstreamHTTP2    bool   // HTTP/2 to the upstream
	RawHeaders       bool   // encode_raw_headers
	Socket           string // where Envoy listens: a unix socket instead of a free port
	Edge             bool   // use_remote_address
	FailureModeAllow bool
	Options          string // more settings of the ext_authz filter, in flow style
	Extensions       string // context_extensions of the one route, in flow style
	Filters          string // HTTP filters before ext_authz, each an item of a list in flow style on its line
	TLS              string // the transport_socket of the listener, in flow style
	Connections      string // more settings of the HTTP connection manager, in flow style
	Route            string // more settings of the one route's action, in flow style: ", name: …"
	Routes           string // routes before that one, each an item of a list in flow style on its line
	AccessLog        string // the format of the access log; if empty, the path and the metadata
	Collector        string // host:port of an OpenTelemetry collector, to which Envoy exports its traces
	Sampled          int    // percent of the requests whose trace Envoy begins, with Collector
	ProxyProtocol    bool   // the listener takes the peer's address from the PROXY protocol
	Module           string // the configuration of the dynamic module, in place of an ext_authz filter with Servers
}

var gatewayConfig = template.Must(template.New("envoy.yaml").Parse(`
static_resources:
  listeners:
    - name: front
      address: {{if .Socket}}{pipe: {path: {{.Socket}} }}{{else}}{socket_address: {address: 127.0.0.1, port_value: 0}}{{end}}
      {{- if .ProxyProtocol}}
      listener_filters:
        - name: envoy.filters.listener.proxy_protocol
          typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol}
      {{- end}}
      filter_chains:
        - {{if .TLS}}transport_socket: {{.TLS}}
          {{end}}filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: front
                codec_type: AUTO
                use_remote_address: {{.Edge}}
                {{- range .ConnectionLines}}
                {{.}}
                {{- end}}
                {{- if .Collector}}
                tracing:
                  random_sampling: {value: {{.Sampled}}}
                  provider:
                    name: envoy.tracers.opentelemetry
                    typed_config:
                      "@type": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig
                      grpc_service: {envoy_grpc: {cluster_name: collector}, timeout: 1s}
                      service_name: envoy
                {{- end}}
                access_log:
                  - name: envoy.access_loggers.stdout
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
                      log_format: {text_format_source: {inline_string: "ACCESS %RESPONSE_CODE% {{or .AccessLog "%REQ(:PATH)% %DYNAMIC_METADATA(envoy.filters.http.ext_authz)%"}}\n"}}
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes:
                        {{- range .RouteLines}}
                        {{.}}
                        {{- end}}
                        - match: {prefix: /}
                          route: {cluster: upstream{{.Route}} }
                          typed_per_filter_config:
                            envoy.filters.http.ext_authz:
                              {{- if .Module}}
                              "@type": type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilterPerRoute
                              dynamic_module_config: {name: extauthz, do_not_close: true}
                              filter_name: extauthz
                              filter_config: {"@type": type.googleapis.com/google.protobuf.Struct, value: {{or .Extensions "{}"}}}
                              {{- else}}
                              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                              check_settings: {context_extensions: {{or .Extensions "{}"}}}
                              {{- end}}
                http_filters:
                  {{- range .FilterLines}}
                  {{.}}
                  {{- end}}
                  - name: envoy.filters.http.ext_authz
                    typed_config:
                      {{- if .Module}}
                      "@type": type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter
                      dynamic_module_config: {name: extauthz, do_not_close: true}
                      filter_name: extauthz
                      filter_config: {"@type": type.googleapis.com/google.protobuf.StringValue, value: {{printf "%q" .Module}}}
                      {{- else}}
                      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
                      transport_api_version: V3
                      encode_raw_headers: {{.RawHeaders}}
                      failure_mode_allow: {{.FailureModeAllow}}
                      status_on_error: {code: 503}
                      {{- range .OptionLines}}
                      {{.}}
                      {{- end}}
                      grpc_service:
                        timeout: 2s
                        envoy_grpc: {cluster_name: extauthz}
                        retry_policy:
                          num_retries: 3
                          retry_on: connect-failure,refused-stream,reset,unavailable
                          retry_back_off: {base_interval: 0.005s, max_interval: 1s} # the maximum also bounds each try
                          host_selection_retry_max_attempts: 3
                          retry_host_predicate:
                            - name: envoy.retry_host_predicates.previous_hosts
                              typed_config: {"@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}
                      {{- end}}
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
    - name: upstream
      {{- if .UpstreamHTTP2}}
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}
      {{- end}}
      load_assignment: {cluster_name: upstream, endpoints: [{lb_endpoints: [{endpoint: {address: {{.UpstreamAddress}} }}]}]}
    {{- if .Collector}}
    - name: collector
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}
      load_assignment: {cluster_name: collector, endpoints: [{lb_endpoints: [{endpoint: {address: {{.CollectorAddress}} }}]}]}
    {{- end}}
    {{- if not .Module}}
    - name: extauthz
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}
      common_lb_config: {healthy_panic_threshold: {value: 0}}
      circuit_breakers: {thresholds: [{max_retries: 1024}]} # 3 by default, too few when a server ends
      health_checks:
        - {timeout: 1s, interval: 0.5s, no_traffic_interval: 0.5s, unhealthy_threshold: 1, healthy_threshold: 1, grpc_health_check: {}}
      load_assignment:
        cluster_name: extauthz
        endpoints:
          - lb_endpoints:
              {{- range .ServerAddresses}}
              - endpoint: {address: {{.}} }
              {{- end}}
    {{- end}}
`))

func (g gateway) start(t testing.TB, args ...string) *harness.EnvoyProcess {
	t.Helper()
	// The access log is otherwise written every 10 s.
	return harness.StartEnvoy(t, g.bootstrap(t), append([]string{"--file-flush-interval-msec", "50"}, args...)...)
}

// bootstrap returns Envoy's configuration.
func (g gateway) bootstrap(t testing.TB) string {
	t.Helper()
	data := struct {
		gateway
		UpstreamAddress string

		CollectorAddress string
		ServerAddresses  []string
		OptionLines      []string
		FilterLines      []string
		RouteLines       []string
		ConnectionLines  []string
	}{gateway: g, UpstreamAddress: harness.EnvoyAddress(t, g.Upstream)}
	if g.Collector != "" {
		data.CollectorAddress = harness.EnvoyAddress(t, g.Collector)
	}
	for _, s := range g.Servers {
		data.ServerAddresses = append(data.ServerAddresses, harness.EnvoyAddress(t, s))
	}
	if g.Options != "" {
		data.OptionLines = strings.Split(g.Options, "\n")
	}
	if g.Routes != "" {
		data.RouteLines = strings.Split(g.Routes, "\n")
	}
	if g.Filters != "" {
		data.FilterLines = strings.Split(g.Filters, "\n")
	}
	if g.Connections != "" {
		data.ConnectionLines = strings.Split(g.Connections, "\n")
	}
	var config bytes.Buffer
	if err := gatewayConfig.Execute(&config, data); err != nil {
		t.Fatal(err)
	}
	return config.String()
}

// record returns a key as YAML. more are additional fields in flow style, such as `enabled: false`.
func record(id string, secret keystore.Secret, more ...string) string {
	fields := append([]string{"id: " + id, "hash: " + secret.Hash().String()}, more...)
	return "  - {" + strings.Join(fields, ", ") + "}\n"
}

// socket returns a unix socket's address, short enough for the kernel.
func socket(t testing.TB) string {
	t.Helper()
	return "unix:" + filepath.Join(t.TempDir(), "s.sock")
}

// A call is one request of a client.
type call struct {
	method string      // if empty, GET
	path   string      // if empty, /documents
	header http.Header // sent as it is, in any case
	from   string      // the client's own address; if empty, 127.0.0.1
	proxy  string      // the client's address in the PROXY protocol header; if empty, none is sent
	http2  bool
}

// A result is the response to a call.
type result struct {
	status int
	header http.Header
	body   string
}

// send sends the call through Envoy.
func send(t testing.TB, addr string, c call) result {
	t.Helper()
	r, err := trySend(t, addr, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func trySend(t testing.TB, addr string, c call) (result, error) {
	if c.method == "" {
		c.method = http.MethodGet
	}
	if c.path == "" {
		c.path = "/documents"
	}
	if c.from == "" {
		c.from = "127.0.0.1"
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.from)}, Timeout: 5 * time.Second}
	dial, host := dialer.DialContext, addr
	if strings.HasPrefix(addr, "/") {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", addr)
		}
		host = "localhost"
	}
	if c.proxy != "" {
		connect := dial
		dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := connect(ctx, network, addr)
			if err == nil {
				_, err = fmt.Fprintf(conn, "PROXY TCP4 %s 127.0.0.1 40000 80\r\n", c.proxy)
			}
			return conn, err
		}
	}
	var protocols http.Protocols
	protocols.SetHTTP1(!c.http2)
	protocols.SetUnencryptedHTTP2(c.http2)
	client := http.Client{
		Transport:     &http.Transport{DialContext: dial, Protocols: &protocols, DisableKeepAlives: true, DisableCompression: true},
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+host+c.path, nil)
	if err != nil {
		return result{}, err
	}
	if c.header != nil {
		request.Header = c.header
	}
	response, err := client.Do(request)
	if err != nil {
		return result{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return result{response.StatusCode, response.Header, string(body)}, err
}

// upstreamSaw returns the request that the upstream received, from its response.
func (r result) upstreamSaw(t testing.TB) echo.Request {
	t.Helper()
	if r.status != http.StatusOK {
		t.Fatalf("got %d %s, want an allowed request", r.status, r.body)
	}
	var request echo.Request
	if err := json.Unmarshal([]byte(r.body), &request); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	return request
}

// A refusal is the body of every refused request.
type refusal struct {
	Meta struct {
		RequestID string `json:"requestId"`
	} `json:"meta"`
	Data struct {
		Valid bool   `json:"valid"`
		Code  string `json:"code"`
		KeyID string `json:"keyId"`
	} `json:"data"`
}

// wantRefusal fails unless r is exactly this refusal.
func (r result) wantRefusal(t testing.TB, status int, code, keyID string) {
	t.Helper()
	if r.status != status {
		t.Fatalf("got %d %s, want %d %s", r.status, r.body, status, code)
	}
	if got := r.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content-type: %q", got)
	}
	var body refusal
	dec := json.NewDecoder(strings.NewReader(r.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	if body.Data.Valid || body.Data.Code != code || body.Data.KeyID != keyID {
		t.Errorf("got %s, want code %s and keyId %q", r.body, code, keyID)
	}
	if body.Meta.RequestID == "" {
		t.Errorf("no requestId in %s: Envoy sets x-request-id", r.body)
	}
	if keyID == "" && strings.Contains(r.body, "keyId") {
		t.Errorf("keyId is in %s", r.body)
	}
}

// headers returns headers of name and value pairs; the names keep their case.
func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(pairs); i += 2 {
		h[pairs[i]] = append(h[pairs[i]], pairs[i+1])
	}
	return h
}

// transports runs f over TCP and a unix socket, with both ways to encode headers.
func transports(t *testing.T, f func(t *testing.T, listen func(testing.TB) string, raw bool)) {
	for name, listen := range map[string]func(testing.TB) string{
		"tcp":  func(t testing.TB) string { return "127.0.0.1:0" },
		"unix": socket,
	} {
		for _, raw := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/raw=%t", name, raw), func(t *testing.T) { f(t, listen, raw) })
		}
	}
}
