package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"extauthz/config"
)

// start opens everything and starts to serve.
func (s *server) start(ctx context.Context) error {
	cfg, err := s.options.Load()
	if err != nil {
		return err
	}
	s.loaded(cfg)
	adminAddr, err := s.startAdmin(ctx, cfg)
	if err != nil {
		return err
	}
	if err := s.startKeys(ctx, cfg); err != nil {
		return err
	}
	if err := s.openTLS(cfg.TLS); err != nil {
		return err
	}
	if err := s.useFirst(ctx, cfg); err != nil {
		return err
	}
	lis, err := s.listen(ctx, cfg.Listen, cfg.Socket)
	if err != nil {
		return err
	}
	s.front = &front{listener: lis, failed: s.failed}
	s.atEnd(s.front.stop)
	s.startBackground(ctx)
	if err := s.front.serve(s.newGRPCServer(cfg.GRPC)); err != nil {
		return err
	}
	attrs := []any{"listen", listenerName(lis), "admin", adminAddr, "store", cfg.Store.Name(), "ratelimits", cfg.Ratelimit.Store}
	if s.keys.files != nil {
		attrs = append(attrs, "keys", s.keys.files.Len())
	}
	s.log.Info("serving", attrs...)
	return nil
}

// loaded applies a configuration to everything that does not need the keys.
func (s *server) loaded(cfg *config.Config) {
	s.startLogging(cfg)
	captureLogs(s.log)
	s.metrics.config.loaded()
	s.status.configRead(nil)
	s.memory.set(cfg.Memory, s.log)
	s.warn(cfg.Warnings)
}

// startKeys opens the store of keys until close is called. It waits for a remote one until ctx ends.
func (s *server) startKeys(ctx context.Context, cfg *config.Config) (err error) {
	if s.keys, err = s.openKeys(ctx, cfg); err != nil {
		return err
	}
	s.atEnd(s.keys.close)
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return err // stopped while the keys were read
	}
	s.warn(s.keys.warnings())
	return nil
}

// useFirst makes cfg the first configuration.
func (s *server) useFirst(ctx context.Context, cfg *config.Config) error {
	first, err := s.newSnapshot(ctx, cfg, nil)
	if err != nil {
		return err
	}
	s.use(first)
	return nil
}

// startLogging sets up logging.
func (s *server) startLogging(cfg *config.Config) {
	s.level = newLiveHandler(cfg.Log, s.options.Log)
	s.log = slog.New(s.level)
	s.decisions = newDecisionLog(s.log)
	s.atEnd(s.decisions.flush)
	s.panics = &panicLog{log: s.log, metrics: s.metrics, now: time.Now}
	s.peers = &peerLog{log: s.log, level: slog.LevelWarn}
	if cfg.TLS.ClientCAFile != "" {
		s.peers.level = slog.LevelInfo // only those with a certificate get that far
	}
}

// startBackground starts the background tasks, which run until ctx ends.
func (s *server) startBackground(ctx context.Context) {
	s.storeReady = s.followKeys(ctx)
	go s.decisions.summarize(ctx)
	go s.reportLostLines(ctx)
	go s.reloadKeysOnRequest(ctx)
	go s.followConfig(ctx)
	go s.followCertificates(ctx)
}

// startAdmin opens the admin listener, if one is configured, and returns its address.
func (s *server) startAdmin(ctx context.Context, cfg *config.Config) (address string, err error) {
	if cfg.Admin.Listen == (config.Address{}) {
		return "none", nil
	}
	lis, err := s.listen(ctx, cfg.Admin.Listen, cfg.Socket)
	if err != nil {
		return "", fmt.Errorf("admin: %w", err)
	}
	profiles := func() bool {
		if n := s.now.Load(); n != nil {
			return n.cfg.Admin.Pprof
		}
		return cfg.Admin.Pprof
	}
	admin := newAdminServer(&adminHandlers{
		ready: &s.ready, metrics: s.metrics.handler(), profiles: profiles,
		verbose: func(w http.ResponseWriter, r *http.Request, why string) { s.status.serve(w, r, why, s.options) },
	})
	admin.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)
	s.atEnd(func() { stopAdmin(admin) }) //nolint:contextcheck // scrapes end after ctx has
	go func() {
		if err := admin.Serve(lis); err != http.ErrServerClosed {
			s.failed <- fmt.Errorf("admin: %w", err)
		}
	}()
	return listenerName(lis), nil
}

func listenerName(lis net.Listener) string {
	a := lis.Addr()
	return config.Address{Network: a.Network(), Address: a.String()}.String()
}
