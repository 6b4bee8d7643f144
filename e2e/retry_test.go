package e2e_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"extauthz/e2e/harness"
	"extauthz/redisclient/redistest"
)

// A lossy server forwards checks to extauthz, and drops every second response.
type lossy struct {
	authv3.UnimplementedAuthorizationServer
	to authv3.AuthorizationClient

	mu     sync.Mutex
	checks int
}

func (l *lossy) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	response, err := l.to.Check(ctx, r)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.checks++; l.checks%2 == 1 {
		return nil, status.Error(codes.Unavailable, "the answer is lost")
	}
	return response, err
}

// startLossy returns the address of a lossy server.
func startLossy(t *testing.T, extauthz string) string {
	t.Helper()
	conn, err := grpc.NewClient(extauthz, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	authv3.RegisterAuthorizationServer(s, &lossy{to: authv3.NewAuthorizationClient(conn)})
	healthv1.RegisterHealthServer(s, health.NewServer())
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

// A check that Envoy retries is charged once. Two requests are charged twice, even with the same
// x-request-id.
func TestRetriedCheckSpendsOnce(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	for name, config := range map[string]string{
		"memory": "", "redis": fmt.Sprintf("ratelimit: {store: redis, url: %q, on_error: refuse, timeout: 10s}\n", redistest.Start(t).URL()),
	} {
		t.Run(name, func(t *testing.T) {
			server := harness.StartExtauthz(t, harness.Settings{Keys: "keys:\n" + record("key_metered", metered, twoAnHour), Config: config})
			front := gateway{Servers: []string{startLossy(t, server.Addr)}, Upstream: upstream.Addr}.start(t).Addr("front")
			for _, want := range []string{
				"200 x-ratelimit-limit=2 x-ratelimit-remaining=1", "200 x-ratelimit-limit=2 x-ratelimit-remaining=0",
				"429 x-ratelimit-limit=2 x-ratelimit-remaining=0",
			} {
				r := send(t, front, call{header: headers("X-Api-Key", string(metered), "X-Request-Id", "13354639564894094939")})
				if got := r.limits(); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
		})
	}
}
