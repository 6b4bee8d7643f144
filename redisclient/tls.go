package redisclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"

	"github.com/redis/rueidis"
)

// tlsFiles are the names of the files of a URL for TLS; each may be empty. They are read for each
// new connection, so that replaced files are used without a restart.
type tlsFiles struct{ ca, cert, key string }

// setTLS configures TLS from the parameters, if the URL is one for TLS. It returns an error if the
// files cannot be used now.
func setTLS(option *rueidis.ClientOption, q url.Values) error {
	if option.TLSConfig == nil {
		for _, name := range []string{"ca_file", "cert_file", "key_file", "server_name", "skip_verify"} {
			if q.Has(name) {
				return badURL("has %s without TLS: write rediss:// instead of redis://", name)
			}
		}
		return nil
	}
	for _, name := range []string{"ca_file", "cert_file", "key_file"} {
		if q.Has(name) && q.Get(name) == "" {
			return badURL("has an empty %s: write the path of a PEM file, or omit it", name)
		}
	}
	if q.Has("cert_file") != q.Has("key_file") {
		return badURL("has one of cert_file and key_file: write both")
	}
	option.TLSConfig.ServerName = q.Get("server_name") // empty: the host that is dialed, of several
	option.Sentinel.TLSConfig = option.TLSConfig
	files := tlsFiles{ca: q.Get("ca_file"), cert: q.Get("cert_file"), key: q.Get("key_file")}
	option.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, c *tls.Config) (net.Conn, error) {
		c, err := files.read(c)
		if err != nil {
			return nil, err
		}
		dialer := tls.Dialer{NetDialer: d, Config: c}
		return dialer.DialContext(ctx, "tcp", addr)
	}
	_, err := files.read(option.TLSConfig)
	return err
}

// read returns the configuration with the present contents of the files.
func (f tlsFiles) read(c *tls.Config) (*tls.Config, error) {
	c = c.Clone()
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("redis: ca_file: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("redis: ca_file: no certificate in it")
		}
	}
	if f.cert != "" {
		cert, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("redis: cert_file and key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}
