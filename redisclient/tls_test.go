package redisclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"extauthz/polltest"
	"extauthz/redisclient/redistest"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// certificate writes a self-signed certificate for 127.0.0.1 with this validity, and its key. The server can
// read both.
func certificate(t *testing.T, valid time.Duration) (cert, key string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "redistls") //nolint:usetesting // the server's user cannot enter those of t.TempDir
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(valid), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	check(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	check(t, err)
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o644))
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", pkcs8)
}

// A tlsServer is a Redis with TLS at url, which only accepts the client certificates that it knows.
type tlsServer struct {
	*redistest.Server
	url string
}

func startTLS(t *testing.T, cert, key, clients string) tlsServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	addr := l.Addr().(*net.TCPAddr)
	check(t, l.Close())
	return tlsServer{
		redistest.Start(t, "--tls-port", strconv.Itoa(addr.Port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", clients),
		"rediss://" + addr.String(),
	}
}

func TestTLS(t *testing.T) {
	cert, key := certificate(t, time.Hour)
	r := startTLS(t, cert, key, cert)
	url := r.url + "?ca_file=" + cert
	if err := ping(t, connect(t, url+"&cert_file="+cert+"&key_file="+key)); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	for name, url := range map[string]string{
		"no client certificate":      url,
		"another authority":          r.url + "?cert_file=" + cert + "&key_file=" + key,
		"another name than expected": url + "&cert_file=" + cert + "&key_file=" + key + "&server_name=other",
	} {
		if err := ping(t, connect(t, url)); err == nil {
			t.Errorf("%s: connected", name)
		}
	}
}

// replace replaces a file with a copy of another, as a rotation does.
func replace(t *testing.T, path, with string) {
	t.Helper()
	text, err := os.ReadFile(with)
	check(t, err)
	check(t, os.WriteFile(path+".new", text, 0o644))
	check(t, os.Rename(path+".new", path))
}

// A certificate, its key and the authorities that are replaced on disk are used for the next connection,
// without a restart.
func TestCertificatesAreReplaced(t *testing.T) {
	serverCert, serverKey := certificate(t, time.Hour)
	goodCert, goodKey := certificate(t, time.Hour)
	expiredCert, expiredKey := certificate(t, -time.Hour)
	for name, stale := range map[string]struct{ ca, cert, key string }{
		"the certificate has expired":    {serverCert, expiredCert, expiredKey},
		"the authority is another":       {goodCert, goodCert, goodKey},
		"the key is not yet the new one": {serverCert, goodCert, expiredKey},
	} {
		t.Run(name, func(t *testing.T) {
			r := startTLS(t, serverCert, serverKey, goodCert)
			dir := t.TempDir()
			ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
			replace(t, ca, serverCert)
			replace(t, cert, goodCert)
			replace(t, key, goodKey)
			c := connect(t, r.url+"?ca_file="+ca+"&cert_file="+cert+"&key_file="+key)
			check(t, ping(t, c))

			replace(t, ca, stale.ca)
			replace(t, cert, stale.cert)
			replace(t, key, stale.key)
			r.Restart() // which ends the connection
			polltest.Until(t, "it does not connect", func() bool { return ping(t, c) != nil })
			replace(t, ca, serverCert)
			replace(t, cert, goodCert)
			replace(t, key, goodKey)
			polltest.NoError(t, func() error { return ping(t, c) })
		})
	}
}
