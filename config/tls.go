package config

import (
	"crypto/tls"
	"slices"

	"gopkg.in/yaml.v3"

	"extauthz/strictyaml"
)

// TLS protects the gRPC listener. The zero value is a listener without TLS. The files are PEM files,
// which are reloaded when they change. Relative paths start from the configuration file's folder.
type TLS struct {
	CertFile string // the server's certificate and its intermediate certificates
	KeyFile  string // its private key

	// ClientCAFile holds the root certificates that must have issued client certificates. Clients
	// without such a certificate are refused. client_ca_file in the file. Default: clients need
	// no certificate.
	ClientCAFile string

	// ClientNames are DNS names and URIs (SPIFFE ids). A client's certificate must have one of
	// them as a subject alternative name. Default: any certificate from ClientCAFile is accepted.
	ClientNames []string

	// MinVersion is the oldest accepted version of TLS, "1.2" or "1.3". Default: "1.3".
	MinVersion string
}

// TLSVersions are the values of [TLS.MinVersion].
var TLSVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

func (r *reader) tls(n *yaml.Node) {
	t := &r.c.TLS
	t.MinVersion = "1.3"
	var clients *yaml.Node
	ok := r.Mapping(n, strictyaml.Fields{
		"cert_file":      func(n *yaml.Node) { r.path(n, &t.CertFile, "tls.crt") },
		"key_file":       func(n *yaml.Node) { r.path(n, &t.KeyFile, "tls.key") },
		"client_ca_file": func(n *yaml.Node) { r.path(n, &t.ClientCAFile, "ca.crt") },
		"client_names":   func(n *yaml.Node) { clients = n; r.clientNames(n) },
		"min_version": func(n *yaml.Node) {
			version, ok := value(r, n, r.Plain)
			if _, known := TLSVersions[version]; ok && !known {
				r.Errorf(n, "%q is not a supported value: write \"1.3\" or \"1.2\"", written(n))
			} else if ok {
				t.MinVersion = version
			}
		},
	})
	switch {
	case !ok:
	case t.CertFile == "" || t.KeyFile == "":
		r.Errorf(n, "tls requires a certificate and its key: write `tls: {cert_file: tls.crt, key_file: tls.key}`")
	case clients != nil && t.ClientCAFile == "":
		r.Errorf(clients, "client_names requires client_ca_file: write the file with the root certificates of client certificates")
	}
}

func (r *reader) clientNames(n *yaml.Node) {
	var names []string
	ok := r.Sequence(n, func(n *yaml.Node) {
		name, ok := value(r, n, r.String)
		switch {
		case !ok:
		case name == "":
			r.Errorf(n, "the name is empty: write a DNS name or URI of client certificates, such as spiffe://cluster.local/ns/gateway/sa/envoy")
		case slices.Contains(names, name):
			r.Errorf(n, "%q is listed twice: keep one of them", written(n))
		default:
			names = append(names, name)
		}
	})
	if ok && empty(n) {
		r.Errorf(n, "the list is empty, so that no client would be accepted: write the names of client certificates, or omit the field")
	}
	r.c.TLS.ClientNames = names
}
