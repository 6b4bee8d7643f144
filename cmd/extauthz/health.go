package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"extauthz/backend"
	"extauthz/config"
)

type healthFlags struct {
	file, address string
	ready         bool
	timeout       time.Duration
}

func newHealthCommand() *cobra.Command {
	f := &healthFlags{}
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Check whether a running server serves",
		Long: `Query the gRPC health service of a server on this machine, or with --ready, /readyz of its admin
listener. This is for probes that run a command in an image without a shell or curl.

The addresses come from the configuration, or are the defaults. A listener that requires client
certificates cannot be queried this way: use --ready.

Exit codes: 0 if the server serves, 1 if it does not serve or does not answer.`,
		Example: `  extauthz health --config /etc/extauthz/extauthz.yaml
  extauthz health --ready --address 127.0.0.1:9192`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	cmd.Flags().StringVarP(&f.file, "config", "c", "", "the server's configuration file, for its addresses")
	cmd.Flags().StringVar(&f.address, "address", "", "where the server listens: host:port or unix:/path (default 127.0.0.1:9191, or 127.0.0.1:9192 with --ready)")
	cmd.Flags().BoolVar(&f.ready, "ready", false, "query /readyz of the admin listener")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 2*time.Second, "how long to wait for the answer")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

func (f *healthFlags) run(cmd *cobra.Command) error {
	cfg := config.Default()
	if f.file != "" {
		var err error
		if cfg, err = config.Load(f.file, config.Overrides{}); err != nil {
			return err
		}
	}
	address := cfg.Listen
	if f.ready {
		address = cfg.Admin.Listen
	}
	if f.address != "" {
		var err error
		if address, err = config.ParseAddress(f.address); err != nil {
			return fmt.Errorf("--address: %q: %w", f.address, err)
		}
	}
	if address == (config.Address{}) {
		return errors.New("the configuration has no admin listener: omit --ready")
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	ask := askHealth
	if f.ready {
		ask = askReadyz
	}
	if err := ask(ctx, dialable(address), cfg.TLS); err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), "ok")
	return err
}

// dialable returns an address of this machine for a listener on all of its addresses.
func dialable(a config.Address) config.Address {
	host, port, err := net.SplitHostPort(a.Address)
	if a.Network != "tcp" || err != nil {
		return a
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case host == "", err == nil && addr == netip.IPv4Unspecified():
		host = "127.0.0.1"
	case err == nil && addr.IsUnspecified():
		host = "::1"
	}
	return config.Address{Network: a.Network, Address: net.JoinHostPort(host, port)}
}

func dialer(a config.Address) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, a.Network, a.Address)
	}
}

// askHealth returns nil if the gRPC health service says SERVING.
func askHealth(ctx context.Context, a config.Address, c config.TLS) error {
	secure := insecure.NewCredentials()
	if c.CertFile != "" {
		var err error
		if secure, err = ownCertificate(c); err != nil {
			return err
		}
	}
	dial := dialer(a)
	conn, err := grpc.NewClient("passthrough:///server", grpc.WithTransportCredentials(secure),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }))
	if err != nil {
		return err
	}
	defer conn.Close()
	resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	switch {
	case status.Code(err) == codes.DeadlineExceeded:
		return errors.New("no answer in time")
	case err != nil:
		return errors.New(oneLine(errors.New(status.Convert(err).Message())))
	case resp.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		return errors.New(resp.GetStatus().String())
	}
	return nil
}

// ownCertificate returns the credentials of a client that trusts only the listener's certificate.
func ownCertificate(c config.TLS) (credentials.TransportCredentials, error) {
	if c.ClientCAFile != "" {
		return nil, errors.New("the listener requires a client certificate: use --ready")
	}
	t, err := backend.OpenTLS(c, nil)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(t.Leaf())
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12,
		RootCAs:    roots,
		// The name is not verified: only this one certificate is accepted.
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots})
			return err
		},
	}), nil
}

// askReadyz returns nil if /readyz answers OK, and otherwise an error with its answer.
func askReadyz(ctx context.Context, a config.Address, _ config.TLS) error {
	dial := dialer(a)
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://server/readyz", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(body)))
	}
	return nil
}
