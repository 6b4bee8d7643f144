package server

import (
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"extauthz/config"
)

// streamWorkers is how many goroutines are kept for the next checks, their stacks already grown.
// A check that finds none idle gets one of its own.
const streamWorkers = 64

// newGRPCServer returns a gRPC server with the authorization and the health service on it.
func (s *server) newGRPCServer(c config.GRPC) *grpc.Server {
	options := append(s.service.ServerOptions(),
		grpc.NumStreamWorkers(streamWorkers),
		// Envoys that send keepalives often, or on connections without a check, are welcome.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		// A peer that vanished without closing its connection is detected. An age of 0 is never.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second, MaxConnectionAge: c.MaxConnectionAge}),
	)
	if s.tls != nil {
		options = append(options, grpc.Creds(s.tls))
	}
	g := grpc.NewServer(options...)
	s.service.Register(g)
	healthpb.RegisterHealthServer(g, s.health)
	return g
}
