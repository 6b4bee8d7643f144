package config

import (
	"net"
	"net/url"

	"gopkg.in/yaml.v3"

	"extauthz/strictyaml"
)

// Tracing says where spans of checks are exported to, by OpenTelemetry's protocol (OTLP).
// docs/operations.md describes the spans.
type Tracing struct {
	// Endpoint is the collector, such as http://collector:4317 or https://otlp.example.com, or none for
	// no tracing. Default: none.
	Endpoint string

	Protocol string // grpc or http; default: grpc

	// Ratio is the share of the checks without a trace of Envoy's for which a trace is begun, from 0 to 1.
	// Default: 0, none: a check then has spans only if Envoy records its trace.
	Ratio float64

	Addresses bool // whether spans have client addresses, and error messages, which may contain some; default: false
}

// The values of [Tracing.Protocol], and the one of Endpoint that is no URL.
const (
	OTLPOverGRPC = "grpc"
	OTLPOverHTTP = "http"

	NoTracing = "none"
)

// URL returns the endpoint with its default port and path; nil for none.
func (t Tracing) URL() *url.URL {
	u, err := url.Parse(t.Endpoint)
	if err != nil || u.Host == "" {
		return nil
	}
	port, path := "4317", ""
	if t.Protocol == OTLPOverHTTP {
		port, path = "4318", "/v1/traces"
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = path
	}
	return u
}

func (r *reader) tracing(n *yaml.Node) {
	t := &r.c.Tracing
	var endpoint *yaml.Node
	r.Mapping(n, strictyaml.Fields{
		"endpoint":  func(n *yaml.Node) { endpoint = n; r.collector(n, &t.Endpoint) },
		"protocol":  func(n *yaml.Node) { r.oneOf(n, &t.Protocol, OTLPOverGRPC, OTLPOverHTTP) },
		"ratio":     func(n *yaml.Node) { r.share(n, &t.Ratio) },
		"addresses": func(n *yaml.Node) { t.Addresses = r.Bool(n) },
	})
	if u := t.URL(); u != nil && t.Protocol == OTLPOverGRPC && u.Path != "" {
		r.Errorf(endpoint, "%q has a path, which OTLP over gRPC does not use: leave it out, or write protocol: http", written(endpoint))
	}
}

// collector reads the URL of a collector, or none.
func (r *reader) collector(n *yaml.Node, to *string) {
	s, ok := value(r, n, r.String)
	if !ok {
		return
	}
	u, err := url.Parse(s)
	if s != NoTracing && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		r.Errorf(n, "%q is not a collector: write none, or a URL such as http://collector:4317, without a user and a query", written(n))
		return
	}
	*to = s
}
