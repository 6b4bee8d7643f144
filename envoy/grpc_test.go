package envoy

import (
	"context"
	"net"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"extauthz/authz"
	"extauthz/check"
)

// maxMessageSize is the configuration's default.
const maxMessageSize = 64 << 20

// dial serves s and the health service on a free port until the test ends, and connects to it.
func dial(t testing.TB, s *Server, options ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	return dialWith(t, s, maxMessageSize, options...)
}

// dialWith is dial with a size of the largest message.
func dialWith(t testing.TB, s *Server, largest int, options ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if now := s.current.Load(); now != nil {
		limited := *now
		limited.maxMessageSize = largest
		s.current.Store(&limited)
	}
	g := grpc.NewServer(append(s.ServerOptions(), options...)...)
	s.Register(g)
	healthpb.RegisterHealthServer(g, health.NewServer())
	done := make(chan error, 1)
	go func() { done <- g.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn
}

func TestOverGRPC(t *testing.T) {
	s := server(t, check.Config{Authorizer: authorizer(keyFor("alpha", "192.0.2.0/24"))})
	conn := dial(t, s)
	client := authv3.NewAuthorizationClient(conn)
	for want, a := range map[string]ask{
		"VALID":       send("x-api-key", "alpha", "x-extauthz-key-id", "root"),
		"FORBIDDEN":   send("x-api-key", "alpha", "x-request-id", "r1").from("198.51.100.1"),
		"NOT_FOUND":   send("x-api-key", "beta", "content-type", "application/grpc"),
		"MISSING_KEY": send().from(""),
	} {
		for encoding, req := range a.encodings {
			resp, err := client.Check(t.Context(), req)
			if err != nil || codeOf(t, resp) != want {
				t.Fatalf("%s, %s: %v, %v", want, encoding, resp, err)
			}
			if direct, _ := s.Check(t.Context(), req); !sameReply(resp, direct) {
				t.Errorf("%s, %s: over gRPC the reply is another:\ngot  %v\nwant %v", want, encoding, resp, direct)
			}
		}
	}
	if resp, err := client.Check(t.Context(), nil); err != nil || codeOf(t, resp) != "MISSING_KEY" {
		t.Errorf("an empty request: %v, %v", resp, err)
	}
	if resp, err := healthpb.NewHealthClient(conn).Check(t.Context(), nil); err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", resp, err)
	}
}

// TestPanicOverGRPC: a panic outside of the decision refuses only its own request.
func TestPanicOverGRPC(t *testing.T) {
	client := authv3.NewAuthorizationClient(dial(t, server(t, check.Config{
		Authorizer: always(authz.Valid),
		Observe: func(_ context.Context, o *check.Observation) {
			if o.RequestID == "boom" {
				panic("full disk")
			}
		},
	})))
	for id, want := range map[string]string{"boom": "UNAVAILABLE", "r1": "VALID"} {
		resp, err := client.Check(t.Context(), send("x-api-key", "alpha", "x-request-id", id).mapped())
		if err != nil || codeOf(t, resp) != want || resp.GetErrorResponse() != nil {
			t.Errorf("%s: %v, %v", id, resp, err)
		}
	}
}

// TestInterceptor: an interceptor sees the generated messages, and nothing else changes.
func TestInterceptor(t *testing.T) {
	s := server(t, check.Config{Authorizer: authorizer(keyFor("alpha"))})
	seen := 0
	conn := dial(t, s, grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		resp, err := handler(ctx, req)
		if _, ok := req.(*authv3.CheckRequest); ok && codeOf(t, resp.(*authv3.CheckResponse)) == "VALID" {
			seen++
		}
		return resp, err
	}))
	resp, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), send("x-api-key", "alpha").mapped())
	if err != nil || codeOf(t, resp) != "VALID" || seen != 1 {
		t.Errorf("%v, %v; seen by the interceptor: %d", resp, err, seen)
	}
}
