package server

import (
	"context"
	"io"
	"net"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"extauthz/config"
	"extauthz/keystore"
	"extauthz/keystore/cache"
)

// testServer returns a server that logs into the buffer.
func testServer(t testing.TB, cfg *config.Config, log io.Writer) *server {
	w := NewLogWriter(log)
	t.Cleanup(w.Close)
	s := newServer(Options{Version: "test", Log: w})
	s.startLogging(cfg)
	s.level.set(cfg.Log, log) // at once
	return s
}

// serveOver makes the server serve the keys of a store, and returns a connection to it.
func serveOver(t testing.TB, s *server, cfg *config.Config, store keystore.Store) *grpc.ClientConn {
	t.Helper()
	s.keys = &keys{Store: store}
	s.keys.cache, _ = store.(*cache.Cache)
	first, err := s.newSnapshot(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.use(first)
	t.Cleanup(s.close)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.front = &front{listener: lis, failed: s.failed}
	t.Cleanup(s.front.stop)
	if err := s.front.serve(s.newGRPCServer(cfg.GRPC)); err != nil {
		t.Fatal(err)
	}
	return dial(t, lis.Addr().String())
}

func dial(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// allowed sends a check, and reports whether the request is allowed.
func allowed(ctx context.Context, conn *grpc.ClientConn, secret, peer string) bool {
	resp, err := ask(ctx, conn, peer, map[string]string{"x-api-key": secret})
	return err == nil && resp.GetOkResponse() != nil
}

// checkWith sends a check of a request with these headers, and reports whether it is allowed.
func checkWith(ctx context.Context, t testing.TB, conn *grpc.ClientConn, headers map[string]string) bool {
	t.Helper()
	resp, err := ask(ctx, conn, "10.1.2.3", headers)
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetOkResponse() != nil
}

func ask(ctx context.Context, conn *grpc.ClientConn, peer string, headers map[string]string) (*authv3.CheckResponse, error) {
	return authv3.NewAuthorizationClient(conn).Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: peer},
		}}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: "/", Headers: headers,
		}},
	}})
}
