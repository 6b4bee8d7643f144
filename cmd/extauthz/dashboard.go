package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"extauthz/audit"
	"extauthz/backend"
	"extauthz/config"
	"extauthz/dashboard"
	"extauthz/keystore"
	"extauthz/server"
	"extauthz/usage"
)

type dashboardFlags struct {
	configFlags
	listen string
}

func newDashboardCommand() *cobra.Command {
	f := &dashboardFlags{}
	cmd := &cobra.Command{
		Use:   "dashboard",
		Short: "Serve a web page to view and change keys",
		Long: `Serve a web page that shows keys, the addresses from which they are used, and refusals, and that
changes keys. It runs as a separate process because it needs write access to the key store, which
the server does not.

With login: token, the default, it prints a link that works once, within ten minutes. To listen on
an address that other machines can reach, set login: oidc in the configuration.`,
		Example: `  extauthz dashboard --config extauthz.yaml
  extauthz dashboard --keys keys.yaml --listen 127.0.0.1:9194`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd)
	cmd.Flags().StringVarP(&f.listen, "listen", "l", "", "where to serve the page: host:port (default 127.0.0.1:9194)")
	return cmd
}

func (f *dashboardFlags) run(cmd *cobra.Command) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	cfg, err := f.load()
	if err != nil {
		return err
	}
	if f.listen != "" {
		if cfg.Dashboard.Listen, err = config.ParseAddress(f.listen); err != nil {
			return fmt.Errorf("--listen: %w", err)
		}
	}
	if why := cfg.Dashboard.Reachable(); why != "" {
		return fmt.Errorf("the dashboard would listen on %s: %s", cfg.Dashboard.Listen, why)
	}
	store, err := backend.OpenStore(ctx, cfg.Store, backend.StoreHooks{})
	if err != nil {
		return err
	}
	defer store.Close()
	records, err := backend.OpenUsage(ctx, cfg)
	switch {
	case errors.Is(err, backend.ErrNoUsage):
		records = nil
	case err != nil:
		return err
	default:
		defer records.Close() // only read
	}
	return f.serve(ctx, cmd, cfg, store, records)
}

// serve serves the dashboard until ctx ends.
func (f *dashboardFlags) serve(ctx context.Context, cmd *cobra.Command, cfg *config.Config, store backend.Store, records usage.Store) error {
	d := cfg.Dashboard
	lis, tlsConfig, err := listenDashboard(ctx, d)
	if err != nil {
		return fmt.Errorf("dashboard: %w", err)
	}
	defer lis.Close() // the server may have closed it
	site, hosts := siteOf(d, lis.Addr().String(), tlsConfig != nil)
	login, token, err := newLogin(ctx, d, site)
	if err != nil {
		return err
	}
	log := server.NewLogger(cfg.Log, cmd.ErrOrStderr())
	editor, closeEditor, err := openDashboardEditor(ctx, cfg, store, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer closeEditor()
	page, err := dashboard.New(dashboard.Config{
		Keys: editor, History: store.History, Usage: records, Login: login, Hosts: hosts, TLS: strings.HasPrefix(site, "https:"), Log: log,
		Explain: func(ctx context.Context, r dashboard.CheckRequest) (*dashboard.CheckResult, error) {
			return explainFor(ctx, log, cfg, store, &r)
		},
		SecretPrefix: secretPrefix(cfg), Curl: func(secret string) string { return curlWith(cfg, secret) },
		State: func(ctx context.Context) dashboard.State {
			return stateOf(ctx, cfg, store, records)
		},
	})
	if err != nil {
		return err
	}
	if token != "" {
		fmt.Fprintf(cmd.OutOrStdout(), "%s/login?token=%s\n", site, token)
	}
	log.Info("serving the dashboard", "url", site, "store", cfg.Store.Name())
	return serveUntil(ctx, dashboard.NewHTTPServer(page, tlsConfig), lis)
}

// listenDashboard opens the dashboard's listener, with TLS where a certificate is configured. The
// certificate is read for each connection.
func listenDashboard(ctx context.Context, d config.Dashboard) (net.Listener, *tls.Config, error) {
	var lc net.ListenConfig
	lis, err := lc.Listen(ctx, d.Listen.Network, d.Listen.Address)
	if err != nil || d.TLS.CertFile == "" {
		return lis, nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(d.TLS.CertFile, d.TLS.KeyFile)
		return &c, err
	}}
	if _, err := c.GetCertificate(nil); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("tls: %w", err), lis.Close())
	}
	return tls.NewListener(lis, c), c, nil
}

// serveUntil serves until ctx ends, and then lets requests in flight end.
func serveUntil(ctx context.Context, s *http.Server, lis net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	select {
	case err := <-served:
		return fmt.Errorf("dashboard: %w", err)
	case <-ctx.Done():
	}
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if s.Shutdown(shutdown) != nil {
		return s.Close()
	}
	return nil
}

// siteOf returns the URL of the dashboard, and the hosts that it answers for.
func siteOf(d config.Dashboard, address string, withTLS bool) (site string, hosts []string) {
	scheme := "http://"
	if withTLS {
		scheme = "https://"
	}
	site = scheme + address
	hosts = []string{address}
	if _, port, err := net.SplitHostPort(address); err == nil && d.Listen.Local() {
		hosts = append(hosts, net.JoinHostPort("localhost", port), net.JoinHostPort("127.0.0.1", port))
	}
	if d.URL != "" {
		site = d.URL
		if u, err := url.Parse(d.URL); err == nil {
			hosts = append(hosts, strings.ToLower(u.Host))
		}
	}
	return site, hosts
}

func newLogin(ctx context.Context, d config.Dashboard, site string) (login dashboard.Login, token string, err error) {
	if d.Login != config.LoginByOIDC {
		login, token := dashboard.NewTokenLogin(actor(), time.Now)
		return login, token, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	o := d.OIDC
	l, err := dashboard.NewOIDCLogin(ctx, dashboard.OIDCConfig{
		Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: o.ClientSecret, RedirectURL: site + "/login/callback",
		Scopes: o.Scopes, Viewers: o.Viewers, Editors: o.Editors,
	})
	return l, "", err
}

// openDashboardEditor opens what changes the keys. Key files are read from memory.
func openDashboardEditor(ctx context.Context, cfg *config.Config, store backend.Store, stderr io.Writer) (keystore.Editor, func(), error) {
	files, ok := store.(backend.InMemory)
	if !ok {
		return audit.Logged(store, backend.AuditLog(cfg.Audit, stderr)), func() {}, nil
	}
	editor, err := backend.OpenEditor(ctx, cfg, stderr)
	if err != nil {
		return nil, nil, err
	}
	background, stop := context.WithCancel(ctx)
	go func() { _ = store.Watch(background, nil) }() // it ends with the dashboard
	return &fileKeys{Editor: editor, Reader: store, files: files}, func() { stop(); editor.Close() }, nil
}
