package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"extauthz/e2e/harness"
	"extauthz/polltest"
)

// The tests in this file send arbitrary bytes under failure_mode_allow: a request that caused an RPC error
// would reach the upstream without a key.

// tenantMetadata copies the header x-tenant into metadata that ext_authz sends.
const tenantMetadata = `- {name: m, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config, ` +
	`request_rules: [{header: x-tenant, on_header_present: {metadata_namespace: envoy.lb, key: tenant, type: STRING}}]}}`

// includeAll makes ext_authz send everything that it can.
const includeAll = `include_tls_session: true
include_peer_certificate: true
metadata_context_namespaces: [envoy.lb]
with_request_body: {max_request_bytes: 16777216}`

// Bytes that are not UTF-8 do not change a decision, in whichever field Envoy sends them.
func TestCallersBytes(t *testing.T) {
	t.Parallel()
	for _, options := range []string{includeAll, strings.Replace(includeAll, "16777216}", "16777216, pack_as_bytes: true}", 1)} {
		for _, raw := range []bool{false, true} {
			upstream := harness.StartUpstream(t)
			server := harness.StartExtauthz(t, harness.Settings{Keys: keys})
			envoy := gateway{
				Servers: []string{server.Addr}, Upstream: upstream.Addr, RawHeaders: raw, FailureModeAllow: true,
				Filters: tenantMetadata, Options: options, TLS: tlsServer(t),
			}.start(t)
			for name, c := range map[string]struct {
				tls    *tls.Config
				header http.Header
				body   string
			}{
				"SNI":          {tls: &tls.Config{ServerName: "a\xff.example"}},
				"metadata":     {header: headers("X-Tenant", "\xff")},
				"header":       {header: headers("X-Other", "a\xff\xc0b", "User-Agent", "\xfe")},
				"content type": {header: headers("Content-Type", "application/grpc\xff")},
				"request id":   {header: headers("X-Request-Id", "\xff")},
				"body":         {body: "\xff\xfe\x00"},
				"certificate":  {tls: &tls.Config{Certificates: []tls.Certificate{certificate(t, "a\xff.example")}}},
			} {
				if c.tls == nil {
					c.tls = new(tls.Config)
				}
				c.tls.InsecureSkipVerify = true
				if c.tls.Certificates == nil {
					c.tls.Certificates = []tls.Certificate{certificate(t, "client.example")}
				}
				client := http.Client{Transport: &http.Transport{TLSClientConfig: c.tls, DisableKeepAlives: true}, Timeout: polltest.Patience}
				post := func(secret string) result {
					request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+envoy.Addr("front")+"/documents", strings.NewReader(c.body))
					if err != nil {
						t.Fatal(err)
					}
					request.Header = c.header.Clone()
					if request.Header == nil {
						request.Header = http.Header{}
					}
					request.Header.Set("X-Extauthz-Key-Id", "key_made_up")
					if secret != "" {
						request.Header.Set("X-Api-Key", secret)
					}
					return do(t, &client, request)
				}
				upstream.Forget()
				if r := post(""); r.status != 401 || !strings.Contains(r.body, "MISSING_KEY") {
					t.Errorf("%s: %d %s, want 401 MISSING_KEY", name, r.status, r.body)
				}
				if seen := upstream.Seen(); len(seen) > 0 {
					t.Errorf("%s: it reached the upstream: %+v", name, seen)
				}
				if got := post(string(listed)).upstreamSaw(t).Headers["x-extauthz-key-id"]; fmt.Sprint(got) != "[key_listed]" {
					t.Errorf("%s: with a key, the upstream saw the id %q", name, got)
				}
			}
			if n := envoy.Stat("cluster.upstream.ext_authz.error"); n != 0 {
				t.Errorf("Envoy counts %d errors of ext_authz", n)
			}
		}
	}
}

// A request with a body that Envoy includes in the check is refused without a key.
func TestLargeBody(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	body := bytes.Repeat([]byte("body!\xff"), 5<<20/6+1)
	for limit, want := range map[string]string{"": "401 MISSING_KEY", "grpc: {max_message_size: 4194304}": "503 UNAVAILABLE"} {
		server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: limit})
		envoy := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, FailureModeAllow: true, Options: "with_request_body: {max_request_bytes: 16777216}"}.start(t)
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: polltest.Patience}
		upstream.Forget()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+envoy.Addr("front")+"/documents", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Extauthz-Key-Id", "key_made_up")
		r := do(t, &client, request)
		if status, code, _ := strings.Cut(want, " "); fmt.Sprint(r.status) != status || !strings.Contains(r.body, code) {
			t.Errorf("%q: got %d %s, want %s", limit, r.status, r.body, want)
		}
		if seen := upstream.Seen(); len(seen) > 0 {
			t.Errorf("%q: it reached the upstream with %v", limit, seen[0].Headers)
		}
		if limit != "" {
			if n := counted(t, server, `extauthz_unreadable_checks_total{reason="too_large"}`); n != 1 {
				t.Errorf("%d refusals are counted", n)
			}
			logged(t, server, "max_message_size")
		}
	}
}

func do(t testing.TB, client *http.Client, request *http.Request) result {
	t.Helper()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return result{response.StatusCode, response.Header, string(body)}
}

// certificate returns a self-signed certificate for a name, which need not be one.
func certificate(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	names, err := asn1.Marshal([]asn1.RawValue{
		{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(name)},
		{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte("spiffe://" + name)},
	})
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: names}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// tlsServer is a transport socket that requires a certificate of clients, and accepts any.
func tlsServer(t testing.TB) string {
	t.Helper()
	c := certificate(t, "front.example")
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	inline := func(kind string, der []byte) string {
		return fmt.Sprintf("{inline_string: %q}", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return `{name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, ` +
		"require_client_certificate: true, common_tls_context: {validation_context: {trust_chain_verification: ACCEPT_UNTRUSTED}, tls_certificates: [{certificate_chain: " +
		inline("CERTIFICATE", c.Certificate[0]) + ", private_key: " + inline("PRIVATE KEY", key) + "}]}}}"
}
