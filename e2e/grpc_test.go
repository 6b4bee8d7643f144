package e2e_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"extauthz/e2e/harness"
	"extauthz/keystore"
)

// A gRPC caller gets a gRPC status, with the code alone as its message.
func TestGRPCCaller(t *testing.T) {
	t.Parallel()
	upstream := grpcUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: allSources})
	envoy := gateway{Servers: []string{server.Addr}, Upstream: upstream, UpstreamHTTP2: true}.start(t)
	conn, err := grpc.NewClient(envoy.Addr("front"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	check := func(name string, secret keystore.Secret, want codes.Code, message string) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if secret != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "x-api-key", string(secret))
			}
			_, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}, grpc.WaitForReady(true))
			if got := status.Convert(err); got.Code() != want || got.Message() != message {
				t.Errorf("got %s %q, want %s %q", got.Code(), got.Message(), want, message)
			}
		})
	}
	check("allowed", listed, codes.OK, "")
	check("forbidden", elsewhere, codes.PermissionDenied, "FORBIDDEN")
	check("unknown", "acme_unknown", codes.Unauthenticated, "NOT_FOUND")
	check("missing", "", codes.Unauthenticated, "MISSING_KEY")
}

// grpcUpstream serves gRPC's health service, and refuses any call with a secret in it.
func grpcUpstream(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if len(md.Get("x-api-key")) > 0 || strings.Join(md.Get("x-extauthz-key-id"), " ") != "key_listed" {
			return nil, status.Errorf(codes.Internal, "the upstream saw %v", md)
		}
		return handle(ctx, request)
	}))
	healthv1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}
