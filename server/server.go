// Package server is the running program: the gRPC listener that Envoys call, the admin listener,
// and the metrics and logs of both.
package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"extauthz/backend"
	"extauthz/config"
	"extauthz/strictyaml"
)

// Options are what [Run] needs.
type Options struct {
	Config *config.Config
	Log    io.Writer // one line an event

	// Signals are those of the process: SIGHUP reloads, any other stops.
	Signals <-chan os.Signal

	Version, Revision string // of the build
}

// Run serves until a signal or the end of ctx stops it, and then drains. It returns an error if it
// cannot start, or has to stop by itself.
func Run(ctx context.Context, o Options) error {
	return newServer(o.Config, newLogger(o.Config.Log, o.Log), newMetrics(o.Version, o.Revision)).run(ctx, o.Signals)
}

// A server is the gRPC server, the admin listener, and what they share.
type server struct {
	cfg     *config.Config
	log     *slog.Logger
	metrics *metrics
	ready   readiness
	health  *health.Server

	storeDown bool // the store was unreachable at the start
}

func newServer(cfg *config.Config, log *slog.Logger, m *metrics) *server {
	return &server{cfg: cfg, log: log, metrics: m, health: health.NewServer()}
}

func (s *server) run(ctx context.Context, signals <-chan os.Signal) error {
	setMemory(s.cfg.Memory, s.log)
	s.warn(s.cfg.Warnings)
	failed := make(chan error, 3) // one for each part that may end by itself
	adminAddr, stopAdmin, err := s.startAdmin(ctx, failed)
	if err != nil {
		return err
	}
	defer stopAdmin()

	keys, err := s.openKeys(ctx)
	if err != nil {
		return err
	}
	defer keys.close()
	s.warn(keys.warnings())
	limits, err := backend.OpenLimiter(ctx, s.cfg.Ratelimit)
	if err != nil {
		return err
	}
	defer limits.Close()
	decisions := newDecisionLog(s.log, time.Now)
	recorder, err := s.openUsage(ctx)
	if err != nil {
		return err
	}
	grpcServer, err := s.newGRPCServer(keys, limits, decisions, recorder)
	if err != nil {
		return err
	}
	lis, err := listen(ctx, s.cfg.Listen)
	if err != nil {
		return err
	}

	background, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { decisions.summarize(background) })
	wg.Go(func() { recorder.run(background) })
	ready := s.followKeys(background, &wg, keys, failed)
	go func() { failed <- grpcServer.Serve(lis) }()
	attrs := []any{"listen", listenerName(lis), "admin", adminAddr, "store", s.cfg.Store.Name(), "ratelimits", s.cfg.Ratelimit.Store}
	if keys.files != nil {
		attrs = append(attrs, "keys", keys.files.Len())
	}
	s.log.Info("serving", attrs...)
	return s.untilStopped(ctx, grpcServer, keys, signals, ready, failed)
}

// maxWarnings bounds how many warnings are logged at once: each key of many may have one.
const maxWarnings = 20

// warn logs settings that are allowed, but probably a mistake.
func (s *server) warn(warnings strictyaml.Errors) {
	for i, w := range warnings {
		if i == maxWarnings {
			s.log.Warn("more suspicious settings: `extauthz validate` lists them", "more", len(warnings)-i)
			return
		}
		s.log.Warn("suspicious setting", "warning", w.Error())
	}
}

// untilStopped handles signals until one of them, or the end of ctx, stops the server.
func (s *server) untilStopped(ctx context.Context, grpcServer *grpc.Server, keys *keys, signals <-chan os.Signal, ready, failed <-chan error) error {
	for {
		select {
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				s.log.Info("reloading the keys", "signal", sig.String())
				_ = keys.reload(ctx) // s.reloaded logs the outcome
				continue
			}
			s.log.Info("stopping", "signal", sig.String(), "drain", s.cfg.Shutdown.Drain.String())
			s.drain(grpcServer, signals)
			return nil
		case <-ctx.Done():
			s.drain(grpcServer, signals)
			return nil
		case err := <-ready:
			s.storeReady(err)
		case err := <-failed:
			grpcServer.Stop()
			return fmt.Errorf("serving: %w", err)
		}
	}
}

// serviceName is what Envoy may ask the health of, beside "" for the whole server.
const serviceName = "envoy.service.auth.v3.Authorization"

func (s *server) serving() { s.setServing(healthpb.HealthCheckResponse_SERVING, "") }

func (s *server) notServing(why string) {
	s.setServing(healthpb.HealthCheckResponse_NOT_SERVING, why)
}

func (s *server) setServing(status healthpb.HealthCheckResponse_ServingStatus, why string) {
	s.health.SetServingStatus("", status)
	s.health.SetServingStatus(serviceName, status)
	s.ready.set(why)
}

// startAdmin opens the admin listener, if one is configured, and returns its address.
func (s *server) startAdmin(ctx context.Context, failed chan<- error) (address string, stop func(), err error) {
	if s.cfg.Admin.Listen == (config.Address{}) {
		return "none", func() {}, nil
	}
	lis, err := listen(ctx, s.cfg.Admin.Listen)
	if err != nil {
		return "", nil, fmt.Errorf("admin: %w", err)
	}
	admin := newAdminServer(&s.ready, s.metrics.handler(), s.cfg.Admin.Pprof)
	go func() {
		if err := admin.Serve(lis); err != http.ErrServerClosed {
			failed <- fmt.Errorf("admin: %w", err)
		}
	}()
	return listenerName(lis), func() { stopAdmin(admin) }, nil //nolint:contextcheck // scrapes end after ctx has
}

func listenerName(lis net.Listener) string {
	a := lis.Addr()
	return config.Address{Network: a.Network(), Address: a.String()}.String()
}
