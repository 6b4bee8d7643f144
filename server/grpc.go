package server

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"extauthz/backend"
	"extauthz/check"
	"extauthz/envoy"
	"extauthz/keystore"
	"extauthz/ratelimit"
)

// streamWorkers is how many goroutines are kept for the next checks, their stacks already grown.
// A check that finds none idle gets one of its own.
const streamWorkers = 64

// newGRPCServer returns the gRPC server with the authorization and the health service on it.
func (s *server) newGRPCServer(keys keystore.Store, limits ratelimit.Limiter, decisions *decisionLog, recorder *usageRecorder) (*grpc.Server, error) {
	routes := &routeLog{log: s.log, metrics: s.metrics, refuses: s.cfg.Ratelimit.RefuseOnError}
	authorizer := backend.NewAuthorizer(s.cfg, keys, limits, backend.AuthorizerHooks{
		BadRoute: routes.bad, LimiterFailed: routes.limiterFailed,
	})
	peers := &peerLog{log: s.log, level: slog.LevelWarn}
	if s.cfg.TLS.ClientCAFile != "" {
		peers.level = slog.LevelInfo // only those with a certificate get that far
	}
	checker, err := backend.NewChecker(s.cfg, authorizer, backend.CheckerHooks{
		Record: s.recordDecision(),
		Observe: func(ctx context.Context, o *check.Observation) {
			s.metrics.observe(o)
			decisions.observe(ctx, o)
			peers.observe(ctx)
			recorder.observe(o)
		},
		ObservePanicked:  (&panicLog{log: s.log, metrics: s.metrics, now: time.Now}).observePanicked,
		UnknownExtension: routes.unknownExtension,
	})
	if err != nil {
		return nil, err
	}
	if s.cfg.DryRun {
		s.metrics.dryRun.Set(1)
		s.log.Warn("DRY RUN: every request is let through, with any key or none")
	}
	var options []envoy.Option
	if !s.cfg.SetPath {
		options = append(options, envoy.KeepPath())
	}
	service := envoy.New(checker, options...)
	age := s.cfg.GRPC.MaxConnectionAge
	grpcOptions := append(service.ServerOptions(s.cfg.GRPC.MaxMessageSize),
		grpc.NumStreamWorkers(streamWorkers),
		// Envoys that send keepalives often, or on connections without a check, are welcome.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		// A peer that vanished without closing its connection is detected. An age of 0 is never.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second, MaxConnectionAge: age}),
	)
	if secure, err := s.openTLS(); err != nil {
		return nil, err
	} else if secure != nil {
		grpcOptions = append(grpcOptions, grpc.Creds(secure))
	}
	g := grpc.NewServer(grpcOptions...)
	service.Register(g)
	healthpb.RegisterHealthServer(g, s.health)
	return g, nil
}
