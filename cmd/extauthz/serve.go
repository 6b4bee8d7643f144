package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"extauthz/config"
	"extauthz/envoy"
	"extauthz/keystore"
	"extauthz/ratelimit"
	"extauthz/strictyaml"
)

func newServeCommand() *cobra.Command {
	f := &configFlags{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the external authorization server until SIGTERM or SIGINT. It then says NOT_SERVING to
health checks, serves on for a while, and ends once the requests in flight are answered; a
second signal ends it at once. SIGHUP reads the keys again.

Either --config or --keys is needed. Flags win over the configuration file.

Exit codes: 0 after SIGTERM or SIGINT, 1 where it cannot start or cannot go on.`,
		Example: `  extauthz serve --keys keys.yaml
  extauthz serve --config extauthz.yaml --listen unix:/run/extauthz/extauthz.sock`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.load()
			if err != nil {
				return err
			}
			signals := make(chan os.Signal, 4)
			// Until the very end: one signal too many must not make the exit code another.
			signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			return newServer(cfg, newLogger(cfg.Log, cmd.ErrOrStderr())).run(cmd.Context(), signals)
		},
	}
	f.register(cmd)
	cmd.Flags().StringVarP(&f.overrides.Listen, "listen", "l", "", "where to listen: host:port or unix:/path (default 127.0.0.1:9191)")
	cmd.Flags().StringVar(&f.overrides.Admin, "admin", "", "where /healthz, /readyz and /metrics are: host:port, unix:/path or none (default 127.0.0.1:9192)")
	return cmd
}

// A server is the running program: the gRPC server, the admin listener, and what they share.
type server struct {
	cfg     *config.Config
	log     *slog.Logger
	metrics *metrics
	ready   readiness
	health  *health.Server

	storeDown bool // the store could not be asked at the start
}

func newServer(cfg *config.Config, log *slog.Logger) *server {
	return &server{cfg: cfg, log: log, metrics: newMetrics(), health: health.NewServer()}
}

// run serves until a signal or the end of ctx says to stop, and drains. It returns an error
// where it cannot start, or has to stop by itself.
func (s *server) run(ctx context.Context, signals <-chan os.Signal) error {
	setMemory(s.cfg.Memory, s.log)
	s.warn(s.cfg.Warnings)
	failed := make(chan error, 3) // one each of what may end by itself
	adminAddr, stopAdmin, err := s.startAdmin(ctx, failed)
	if err != nil {
		return err
	}
	defer stopAdmin()

	store, err := s.openStore(ctx)
	if err != nil {
		return err
	}
	defer store.close()
	s.warn(store.warnings())
	limits, err := openLimiter(ctx, s.cfg.Ratelimit)
	if err != nil {
		return err
	}
	defer limits.close()
	decisions := newDecisionLog(s.log, time.Now)
	grpcServer, err := s.newGRPCServer(store, limits, decisions)
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
	ready := s.followStore(background, &wg, store, failed)
	go func() { failed <- grpcServer.Serve(lis) }()
	about := []any{"listen", listenerName(lis), "admin", adminAddr, "store", store.name, "ratelimits", limits.name}
	if store.remote == nil {
		about = append(about, "keys", store.len())
	}
	s.log.Info("serving", about...)
	return s.untilStopped(ctx, grpcServer, store, signals, ready, failed)
}

// maxWarnings bounds how many warnings are logged at once: each key of many may have one.
const maxWarnings = 20

// warn tells what is allowed, but hardly meant.
func (s *server) warn(warnings strictyaml.Errors) {
	for i, w := range warnings {
		if i == maxWarnings {
			s.log.Warn("there are more of these: `extauthz validate` tells them", "more", len(warnings)-i)
			return
		}
		s.log.Warn("this is allowed, but hardly meant", "warning", w.Error())
	}
}

// untilStopped does what signals say until one of them, or the end of ctx, says to stop.
func (s *server) untilStopped(ctx context.Context, grpcServer *grpc.Server, store *store, signals <-chan os.Signal, ready, failed <-chan error) error {
	for {
		select {
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				s.log.Info("reading the keys again", "signal", sig.String())
				_ = store.reload(ctx) // s.reloaded is told how it went
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

// streamWorkers is how many goroutines are kept for the next checks, their stacks grown
// already. A check that finds none waiting gets one of its own.
const streamWorkers = 64

// newGRPCServer returns the gRPC server with the authorization and the health service on it.
func (s *server) newGRPCServer(keys keystore.Store, limits ratelimit.Limiter, decisions *decisionLog) (*grpc.Server, error) {
	rights := newRightsLog(s.log, s.cfg, s.metrics)
	service, err := newService(s.cfg, newAuthorizer(s.cfg, keys, limits, rights.hooks()), serviceHooks{
		observe: func(ctx context.Context, o *envoy.Observation) {
			s.metrics.observe(o)
			decisions.observe(ctx, o)
		},
		unknownExtension: rights.unknownExtension,
	})
	if err != nil {
		return nil, err
	}
	age := s.cfg.GRPC.MaxConnectionAge
	options := append(service.ServerOptions(),
		grpc.MaxRecvMsgSize(s.cfg.GRPC.MaxMessageSize),
		grpc.NumStreamWorkers(streamWorkers),
		// Envoys that send keepalives often, or on connections without a check, are welcome.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		// A peer that vanished without a word is found out. An age of 0 is never.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second, MaxConnectionAge: age}),
	)
	g := grpc.NewServer(options...)
	service.Register(g)
	healthpb.RegisterHealthServer(g, s.health)
	return g, nil
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

// sameSignal is how long after a signal to stop another one is taken for the same: some
// supervisors send it to the process and to its group.
const sameSignal = 500 * time.Millisecond

// drain says NOT_SERVING, serves on for the drain time, and ends once the requests in flight
// are answered, or their time is over. A second signal to stop ends it at once.
func (s *server) drain(g *grpc.Server, signals <-chan os.Signal) {
	began := time.Now()
	s.notServing("stopping")
	again := make(chan struct{})
	go func() {
		for sig := range signals {
			if sig != syscall.SIGHUP && time.Since(began) > sameSignal {
				close(again)
				return
			}
		}
	}()
	select {
	case <-time.After(s.cfg.Shutdown.Drain):
	case <-again:
	}
	done := make(chan struct{})
	go func() { g.GracefulStop(); close(done) }()
	select {
	case <-done:
		s.log.Info("stopped")
		return
	case <-time.After(s.cfg.Shutdown.Timeout):
		s.log.Warn("stopping with requests in flight, their time is over", "timeout", s.cfg.Shutdown.Timeout.String())
	case <-again:
		s.log.Warn("stopping at once, on a second signal")
	}
	g.Stop()
	<-done
}

// startAdmin opens the admin listener, where one is wanted, and returns where it is.
func (s *server) startAdmin(ctx context.Context, failed chan<- error) (where string, stop func(), err error) {
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
