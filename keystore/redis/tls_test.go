package redis

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
	"testing"
	"time"

	"extauthz/keystore/redis/redistest"
)

// certificate writes a self-signed one for 127.0.0.1 and its key, readable by the server.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "redistls") //nolint:usetesting // the server's user cannot enter those of t.TempDir
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o644))
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", pkcs8)
}

func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	addr := l.Addr().(*net.TCPAddr)
	must(t, l.Close())
	redistest.Start(t, "--tls-port", big.NewInt(int64(addr.Port)).String(), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert)

	url := "rediss://" + addr.String() + "?ca_file=" + cert
	if err := open(t, Options{URL: url + "&cert_file=" + cert + "&key_file=" + key}).Ready(within(t)); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	for name, url := range map[string]string{
		"no certificate of ours":     url,
		"nobody that we trust":       "rediss://" + addr.String() + "?cert_file=" + cert + "&key_file=" + key,
		"another name than expected": url + "&cert_file=" + cert + "&key_file=" + key + "&server_name=other",
	} {
		if err := open(t, Options{URL: url}).Ready(within(t)); err == nil {
			t.Errorf("%s: ready", name)
		}
	}
}
