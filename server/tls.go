package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"

	"extauthz/backend"
	"extauthz/config"
)

// openTLS opens the certificates of the gRPC listener, if it has any.
func (s *server) openTLS(cfg config.TLS) error {
	if cfg.CertFile == "" {
		return nil
	}
	certificates, err := backend.OpenTLS(cfg, s.certificatesReloaded)
	if err != nil {
		return err
	}
	if err := certificates.CheckTime(time.Now()); err != nil {
		s.log.Error("every client will refuse this certificate", "error", err.Error())
	}
	s.certificates = certificates
	refused := counter("extauthz_tls_refused_connections_total", "Connections whose TLS handshake failed: without TLS, without a client certificate, or with a wrong one.")
	s.metrics.registry.MustRegister(refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "extauthz_tls_certificate_expiry_timestamp_seconds", Help: "Unix time at which the certificate of the gRPC listener expires.",
	}, func() float64 { return float64(certificates.Leaf().NotAfter.Unix()) }))
	c := certificates.Config()
	s.tls = &tlsCredentials{TransportCredentials: credentials.NewTLS(c), config: c, log: s.log, refused: refused}
	return nil
}

func (s *server) certificatesReloaded(err error) {
	if err != nil {
		s.log.Error("reloading the TLS files failed: the last good ones stay", "error", clip(oneLine(err)))
		return
	}
	s.log.Info("reloaded the TLS files")
}

// certificatesEvery is how often the TLS files are checked while there are no new connections.
const certificatesEvery = 10 * time.Second

// followCertificates reloads changed TLS files, so that a mistake in them is logged soon, until ctx ends.
func (s *server) followCertificates(ctx context.Context) {
	if s.certificates == nil {
		return
	}
	tick := time.NewTicker(certificatesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.certificates.Refresh()
		}
	}
}

// handshakeTimeout is how long a client may take for its TLS handshake.
const handshakeTimeout = 10 * time.Second

// tlsCredentials are gRPC's own, but log and count the connections that they refuse, and accept a
// client that does not name HTTP/2 (ALPN): an Envoy does so only if alpn_protocols says it.
type tlsCredentials struct {
	credentials.TransportCredentials
	config  *tls.Config
	log     *slog.Logger
	refused prometheus.Counter
	lines   throttle
}

// ServerHandshake implements [credentials.TransportCredentials].
func (c *tlsCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn := tls.Server(raw, c.config)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		c.refuse(raw.RemoteAddr(), err)
		_ = conn.Close()
		return nil, nil, err
	}
	return conn, credentials.TLSInfo{
		State:          conn.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

func (c *tlsCredentials) refuse(peer net.Addr, err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return // a probe, which connects and no more
	}
	c.refused.Inc()
	if c.lines.allow(time.Now()) {
		c.log.Warn("refused a connection: the TLS handshake failed", "peer", peer.String(), "error", clip(oneLine(err)))
	}
}
