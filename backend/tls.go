package backend

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"extauthz/config"
	"extauthz/files"
)

// A ServerTLS holds the certificates of the gRPC listener, and reloads them when their files change.
// It is safe for concurrent use.
type ServerTLS struct {
	config   config.TLS
	onReload func(error)

	mu      sync.Mutex
	digest  [sha256.Size]byte // of the last files that were read
	pair    tls.Certificate   // of the last good ones
	clients *x509.CertPool    // of the last good ones; nil if clients need no certificate
	current *tls.Config       // made of them
}

// OpenTLS reads the certificates. onReload, if non-nil, is called after the files have changed: with
// nil if the new ones are in use, or with the reason why not; then the last good ones stay in use.
func OpenTLS(c config.TLS, onReload func(error)) (*ServerTLS, error) {
	t := &ServerTLS{config: c, onReload: onReload}
	files, digest := t.read()
	if err := t.use(files); err != nil {
		return nil, err
	}
	t.digest = digest
	return t, nil
}

// Config returns the configuration of a listener. Each handshake uses the files as they are then.
func (t *ServerTLS) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return t.Refresh(), nil
	}}
}

// Leaf returns the server's certificate that is in use.
func (t *ServerTLS) Leaf() *x509.Certificate {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pair.Leaf
}

// CheckTime returns an error if the certificate is not valid now.
func (t *ServerTLS) CheckTime(now time.Time) error {
	switch leaf := t.Leaf(); {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("tls.cert_file: %s: the certificate expired at %s: replace it", t.config.CertFile, leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("tls.cert_file: %s: the certificate is not valid before %s", t.config.CertFile, leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// Refresh reads the files again, uses them if they have changed and are valid, and returns the
// configuration in use.
func (t *ServerTLS) Refresh() *tls.Config {
	t.mu.Lock()
	defer t.mu.Unlock()
	files, digest := t.read()
	if digest == t.digest {
		return t.current
	}
	t.digest = digest
	err := t.use(files)
	if t.onReload != nil {
		t.onReload(err)
	}
	return t.current
}

// tlsFiles are the contents of the files, or the errors of reading them.
type tlsFiles struct {
	cert, key, clientCA []byte
	err                 error
}

func (t *ServerTLS) read() (f tlsFiles, digest [sha256.Size]byte) {
	h := sha256.New()
	var errs []error
	for _, file := range []struct {
		field, path string
		to          *[]byte
	}{
		{"cert_file", t.config.CertFile, &f.cert},
		{"key_file", t.config.KeyFile, &f.key},
		{"client_ca_file", t.config.ClientCAFile, &f.clientCA},
	} {
		if file.path == "" {
			continue
		}
		data, err := files.Read(file.path)
		if err != nil {
			errs = append(errs, fmt.Errorf("tls.%s: %s: %w", file.field, file.path, err))
		}
		*file.to = data
		fmt.Fprintf(h, "%d %s %v\n", len(data), data, err)
	}
	f.err = errors.Join(errs...)
	h.Sum(digest[:0])
	return f, digest
}

// use makes the contents of the files the ones in use, unless they are invalid.
func (t *ServerTLS) use(f tlsFiles) error {
	if f.err != nil {
		return f.err
	}
	pair, err := tls.X509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("tls: cert_file %s and key_file %s: %w", t.config.CertFile, t.config.KeyFile, err)
	}
	var clients *x509.CertPool
	if t.config.ClientCAFile != "" {
		clients = x509.NewCertPool()
		if !clients.AppendCertsFromPEM(f.clientCA) {
			return fmt.Errorf("tls.client_ca_file: %s: the file contains no certificate in PEM form", t.config.ClientCAFile)
		}
	}
	t.pair, t.clients = pair, clients
	t.make()
	return nil
}

// Configure changes the names of clients and the versions, for handshakes from now on. The files
// stay the same as in OpenTLS.
func (t *ServerTLS) Configure(c config.TLS) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.config.ClientNames, t.config.MinVersion = c.ClientNames, c.MinVersion
	t.make()
}

// make returns the configuration of a handshake.
func (t *ServerTLS) make() {
	t.current = &tls.Config{
		MinVersion:   config.TLSVersions[t.config.MinVersion],
		Certificates: []tls.Certificate{t.pair},
		NextProtos:   []string{"h2"},
		// Each connection must present its certificate: a resumed session would not be checked
		// against new roots and names. Connections are few and long-lived.
		SessionTicketsDisabled: true,
	}
	if t.clients != nil {
		t.current.ClientAuth, t.current.ClientCAs = tls.RequireAndVerifyClientCert, t.clients
		allowed := t.config.ClientNames
		t.current.VerifyConnection = func(s tls.ConnectionState) error { return checkName(s, allowed) }
	}
}

// checkName refuses a client whose certificate has none of the allowed names, if any are set.
func checkName(s tls.ConnectionState, allowed []string) error {
	if len(allowed) == 0 {
		return nil
	}
	leaf := s.PeerCertificates[0] // verified, so that there is one
	names := slices.Clone(leaf.DNSNames)
	for _, uri := range leaf.URIs {
		names = append(names, uri.String())
	}
	if slices.ContainsFunc(names, func(name string) bool { return slices.Contains(allowed, name) }) {
		return nil
	}
	return fmt.Errorf("the client's certificate is for %.500q, and none of that is in tls.client_names", strings.Join(names, " "))
}
