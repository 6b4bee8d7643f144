package server

import (
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"extauthz/config"
)

// streamWorkers is the number of goroutines that are reused for checks, since their stacks have grown.
// While all are busy, further checks get new ones.
const streamWorkers = 64

// newGRPCServer returns a gRPC server with the authorization and the health service on it.
func (s *server) newGRPCServer(c config.GRPC) *grpc.Server {
	options := append(s.service.ServerOptions(),
		grpc.NumStreamWorkers(streamWorkers),
		// Envoys may send keepalives often, and on idle connections.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		// A peer that vanished without closing its connection is detected. An age of 0 means no limit.
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
