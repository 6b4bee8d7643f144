package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"extauthz/certtest"
	"extauthz/polltest"
)

const spiffeID = "spiffe://cluster.local/ns/gateway/sa/envoy"

// A pki is a folder with the files of a server with mutual TLS.
type pki struct {
	dir              string
	servers, clients *certtest.Authority
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	p := &pki{t.TempDir(), certtest.New(t), certtest.New(t)}
	p.servers.Issue(t, certtest.Certificate{Names: []string{"extauthz", "127.0.0.1"}}, p.file("tls.crt"), p.file("tls.key"))
	p.clients.Write(t, p.file("ca.crt"))
	return p
}

func (p *pki) file(name string) string { return filepath.Join(p.dir, name) }

// config returns a configuration with these fields of tls.
func (p *pki) config(t *testing.T, more string) string {
	t.Helper()
	write(t, p.file("keys.yaml"), keyFile(secretOne))
	return fmt.Sprintf("%stls: {cert_file: %s, key_file: %s%s}\nstore: {yaml: {path: %s}}\n", local, p.file("tls.crt"), p.file("tls.key"), more, p.file("keys.yaml"))
}

// client returns the certificate of a client.
func (p *pki) client(t *testing.T, a *certtest.Authority, c certtest.Certificate) tls.Certificate {
	t.Helper()
	a.Issue(t, c, p.file("client.crt"), p.file("client.key"))
	pair, err := tls.LoadX509KeyPair(p.file("client.crt"), p.file("client.key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// accepts reports whether the server answers over a new connection.
func accepts(t *testing.T, address string, secure credentials.TransportCredentials) bool {
	t.Helper()
	return acceptsAt(t, "passthrough:///"+address, secure)
}

// acceptsAt is accepts for an address as gRPC writes it.
func acceptsAt(t *testing.T, address string, secure credentials.TransportCredentials) bool {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(secure))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), polltest.Patience)
	defer cancel()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return err == nil
}

func tlsClient(roots *x509.CertPool, own ...tls.Certificate) credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "extauthz", Certificates: own, MinVersion: tls.VersionTLS12})
}

// A client whose name is not in the configuration is refused, logged and counted.
func TestServeMutualTLS(t *testing.T) {
	pki := newPKI(t)
	p := serve(t, pki.config(t, fmt.Sprintf(", client_ca_file: %s, client_names: [envoy.example.com, %q]", pki.file("ca.crt"), spiffeID)))
	roots := pki.servers.Pool()
	strangers := certtest.New(t)
	right := certtest.Certificate{Names: []string{"envoy.example.com"}}
	tls12 := &tls.Config{RootCAs: roots, ServerName: "extauthz", MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pki.client(t, pki.clients, right)}}
	for _, c := range []struct {
		what   string
		client credentials.TransportCredentials
		want   bool
		log    string
	}{
		{"a DNS name", tlsClient(roots, pki.client(t, pki.clients, right)), true, ""},
		{"a URI", tlsClient(roots, pki.client(t, pki.clients, certtest.Certificate{Names: []string{"other", spiffeID}})), true, ""},
		{"no certificate", tlsClient(roots), false, "client didn't provide a certificate"},
		{"another authority's", tlsClient(roots, pki.client(t, strangers, right)), false, "certificate signed by unknown authority"},
		{"another name", tlsClient(roots, pki.client(t, pki.clients, certtest.Certificate{Names: []string{"other.example.com"}})), false, "is for \\\"other.example.com\\\", and none of that is in tls.client_names"},
		{"no name", tlsClient(roots, pki.client(t, pki.clients, certtest.Certificate{})), false, "none of that is in tls.client_names"},
		{"a name below", tlsClient(roots, pki.client(t, pki.clients, certtest.Certificate{Names: []string{"a.envoy.example.com"}})), false, "a.envoy.example.com"},
		{"an expired one", tlsClient(roots, pki.client(t, pki.clients, certtest.Certificate{Names: right.Names, NotAfter: time.Now().Add(-time.Minute)})), false, "certificate has expired"},
		{"the server's own", tlsClient(roots, pki.client(t, pki.servers, right)), false, "unknown authority"},
		{"an old version of TLS", credentials.NewTLS(tls12), false, "client offered only unsupported versions"},
		{"no TLS", insecure.NewCredentials(), false, "first record does not look like a TLS handshake"},
	} {
		if got := accepts(t, p.listen, c.client); got != c.want {
			t.Errorf("%s: accepted: %t", c.what, got)
		}
		if c.log != "" {
			polltest.Until(t, c.what+" is logged as "+c.log, func() bool {
				return strings.Contains(p.Log(), "refused a connection: the TLS handshake failed") && strings.Contains(p.Log(), c.log)
			})
		}
	}
	if n := p.metric(t, "extauthz_tls_refused_connections_total"); n == "0" {
		t.Error("no refused connection is counted")
	}
	if p.metric(t, "extauthz_tls_certificate_expiry_timestamp_seconds") == "0" {
		t.Error("no expiry of the certificate")
	}
}

// Without client_ca_file, any client is served; min_version allows older ones.
func TestServeTLS(t *testing.T) {
	pki := newPKI(t)
	p := serve(t, pki.config(t, `, min_version: "1.2"`))
	if !accepts(t, p.listen, tlsClient(pki.servers.Pool())) {
		t.Error("a client without a certificate is refused")
	}
	old := &tls.Config{RootCAs: pki.servers.Pool(), ServerName: "extauthz", MaxVersion: tls.VersionTLS12}
	if !accepts(t, p.listen, credentials.NewTLS(old)) {
		t.Error("a client with TLS 1.2 is refused")
	}
	// An Envoy without alpn_protocols does not say that it speaks HTTP/2.
	conn, err := tls.Dial("tcp", p.listen, &tls.Config{RootCAs: pki.servers.Pool(), ServerName: "extauthz"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	settings := make([]byte, 9)
	if _, err := io.ReadFull(conn, settings); err != nil || settings[3] != 4 {
		t.Errorf("a client that does not name HTTP/2 is answered % x, %v", settings, err)
	}
	if accepts(t, p.listen, tlsClient(pki.clients.Pool())) {
		t.Error("the server has a certificate of the clients' authority")
	}
}

// Changed files are used for the next connection; files that cannot be used are not, and the last
// good ones stay.
func TestServeTLSReload(t *testing.T) {
	pki := newPKI(t)
	p := serve(t, pki.config(t, ", client_ca_file: "+pki.file("ca.crt")))
	first, second := tlsClient(pki.servers.Pool(), pki.client(t, pki.clients, certtest.Certificate{})), certtest.New(t)
	if !accepts(t, p.listen, first) {
		t.Fatal("the first certificate is refused")
	}
	conn, err := grpc.NewClient("passthrough:///"+p.listen, grpc.WithTransportCredentials(first))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := mustCheck(t, conn, secretOne, "10.1.2.3"); got != "VALID" {
		t.Fatal(got)
	}

	// A new key, without its certificate.
	second.Issue(t, certtest.Certificate{Names: []string{"extauthz"}}, pki.file("new.crt"), pki.file("tls.key"))
	if !accepts(t, p.listen, first) {
		t.Error("refused between two files")
	}
	polltest.Until(t, "the mistake is logged", func() bool {
		return strings.Contains(p.Log(), "reloading the TLS files failed: the last good ones stay") && strings.Contains(p.Log(), "private key does not match public key")
	})
	second.Issue(t, certtest.Certificate{Names: []string{"extauthz"}}, pki.file("tls.crt"), pki.file("tls.key"))
	clients := certtest.New(t)
	clients.Write(t, pki.file("ca.crt"))
	if accepts(t, p.listen, first) {
		t.Error("a client of the old authority is accepted")
	}
	if !accepts(t, p.listen, tlsClient(second.Pool(), pki.client(t, clients, certtest.Certificate{}))) {
		t.Error("a client of the new authority is refused")
	}
	polltest.Until(t, "the reload is logged", func() bool { return strings.Contains(p.Log(), `msg="reloaded the TLS files"`) })
	if got := mustCheck(t, conn, secretOne, "10.1.2.3"); got != "VALID" {
		t.Errorf("over the connection from before: %s", got)
	}

	write(t, pki.file("ca.crt"), "nothing\n")
	if !accepts(t, p.listen, tlsClient(second.Pool(), pki.client(t, clients, certtest.Certificate{}))) {
		t.Error("without good roots the last ones do not stay")
	}
}

// A mistake in the files ends serve and validate, with its place. A problem that may be temporary is a
// warning.
func TestTLSMistakes(t *testing.T) {
	pki := newPKI(t)
	file := pki.file("extauthz.yaml")
	for _, c := range []struct{ fields, want string }{
		{", client_ca_file: " + pki.file("none.crt"), "tls.client_ca_file: " + pki.file("none.crt") + ": no such file or directory"},
		{", client_ca_file: " + pki.file("tls.key"), "the file contains no certificate in PEM form"},
		{", client_names: [a]", "client_names requires client_ca_file"},
	} {
		write(t, file, pki.config(t, c.fields))
		for _, verb := range []string{"serve", "validate"} {
			p := start(t, verb, "--config", file)
			if code := p.Wait(); code != 1 || !strings.Contains(p.Log(), c.want) {
				t.Errorf("%s with %s: exit code %d, %s; want %s", verb, c.fields, code, p.Log(), c.want)
			}
		}
	}
	pki.servers.Issue(t, certtest.Certificate{NotAfter: time.Now().Add(-time.Minute)}, pki.file("tls.crt"), pki.file("tls.key"))
	write(t, file, pki.config(t, ""))
	p := start(t, "validate", "--config", file)
	if code := p.Wait(); code != 0 || !strings.Contains(p.Log(), "the certificate expired at") {
		t.Errorf("an expired certificate: exit code %d, %s", code, p.Log())
	}
}
