package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// bootstrap is an Envoy that answers every request itself, so that two of them differ only in their
// filters. The listener is read from a file, and reloaded when the file changes.
const bootstrap = `
node: {id: bench, cluster: bench}
dynamic_resources: {lds_config: {resource_api_version: V3, path_config_source: {path: %q}}}
static_resources:
  clusters: [%s]
`

const listener = `resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: main
  address: {socket_address: {address: 127.0.0.1, port_value: %s}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: main
        route_config:
          virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: ok}}}]}]
        http_filters:
%s        - name: envoy.filters.http.router
          typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`

const extAuthz = `        - name: envoy.filters.http.ext_authz
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
            transport_api_version: V3
            grpc_service: {envoy_grpc: {cluster_name: checks}, timeout: 10s}
`

const dynamicModule = `        - name: extauthz
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter
            dynamic_module_config: {name: extauthz, do_not_close: true}
            filter_name: extauthz
            filter_config: {"@type": type.googleapis.com/google.protobuf.StringValue, value: %q}
`

const checksCluster = `{name: checks, connect_timeout: 5s, type: STATIC,
    typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {
      "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}},
    load_assignment: {cluster_name: checks, endpoints: [{lb_endpoints: [{endpoint: {address: %s}}]}]}}`

// An envoyServer is a running Envoy with one worker.
type envoyServer struct {
	*process
	addr, listenerFile string
}

// envoyWith starts an Envoy that calls the server, or, if server is nil, one without a filter.
func (b *bed) envoyWith(name string, s *server) (*envoyServer, error) {
	if s == nil {
		return b.startEnvoy(name, "", "")
	}
	var address string
	if path, ok := strings.CutPrefix(s.addr, "unix:"); ok {
		address = fmt.Sprintf("{pipe: {path: %q}}", path)
	} else {
		host, port, err := net.SplitHostPort(s.addr)
		if err != nil {
			return nil, err
		}
		address = fmt.Sprintf("{socket_address: {address: %s, port_value: %s}}", host, port)
	}
	return b.startEnvoy(name, extAuthz, fmt.Sprintf(checksCluster, address))
}

// envoyInside starts an Envoy that holds the keys itself, in the dynamic module.
func (b *bed) envoyInside(s keySet) (*envoyServer, error) {
	keys, err := b.keyFile(s)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, "inside.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "store: {yaml: {path: %q}}\nadmin: {listen: none}\n", keys), 0o600); err != nil {
		return nil, err
	}
	return b.startEnvoy("inside", fmt.Sprintf(dynamicModule, file), "")
}

func (b *bed) startEnvoy(name, filters, clusters string) (*envoyServer, error) {
	e := &envoyServer{addr: freePort(), listenerFile: filepath.Join(b.dir, name+"-listener.yaml")}
	file := filepath.Join(b.dir, name+"-envoy.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, bootstrap, e.listenerFile, clusters), 0o600); err != nil {
		return nil, err
	}
	if err := e.setFilters(filters); err != nil {
		return nil, err
	}
	var err error
	e.process, err = start(b.dir, "envoy-"+name, []string{
		"env", "ENVOY_DYNAMIC_MODULES_SEARCH_PATH=" + filepath.Dir(b.module), b.envoy, "--config-path", file, "--disable-hot-restart", "--concurrency", "1",
		"--log-level", "warning", "--drain-time-s", "1",
	}, listens(e.addr))
	if err != nil {
		return nil, err
	}
	b.add(e.stop)
	return e, nil
}

// setFilters changes the listener's filters, in one step.
func (e *envoyServer) setFilters(filters string) error {
	_, port, err := net.SplitHostPort(e.addr)
	if err != nil {
		return err
	}
	next := e.listenerFile + ".new"
	if err := os.WriteFile(next, fmt.Appendf(nil, listener, port, filters), 0o600); err != nil {
		return err
	}
	return os.Rename(next, e.listenerFile)
}

// An envoyCase is one Envoy under load.
type envoyCase struct {
	Name       string `json:"name"`
	Saturation flow   `json:"saturation"`
	Half       flow   `json:"half"` // at half the rate of saturation

	envoy  *envoyServer
	server *server // nil if Envoy itself decides
	load   *httpLoad
}

// A flow is what was measured at one rate.
type flow struct {
	Rate      series `json:"requests_per_second"`
	P50       series `json:"p50_us"`
	P99       series `json:"p99_us"`
	P999      series `json:"p999_us"`
	ServerCPU series `json:"server_cpu_us_per_request"`
	EnvoyCPU  series `json:"envoy_cpu_us_per_request"`
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func (f *flow) add(took []time.Duration, elapsed, server, envoy time.Duration) {
	n := float64(len(took))
	f.Rate.add(n / elapsed.Seconds())
	f.P50.add(us(quantile(took, 0.5)))
	f.P99.add(us(quantile(took, 0.99)))
	f.P999.add(us(quantile(took, 0.999)))
	f.ServerCPU.add(us(server) / n)
	f.EnvoyCPU.add(us(envoy) / n)
}
