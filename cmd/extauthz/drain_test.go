package main

import (
	"context"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"extauthz/config"
	"extauthz/keystore"
)

// slowStore answers once it is told to.
type slowStore struct{ asked, answer chan struct{} }

func (s slowStore) Lookup(ctx context.Context, h keystore.Hash) (*keystore.Key, error) {
	s.asked <- struct{}{}
	select {
	case <-s.answer:
		return &keystore.Key{ID: "key_slow", Hash: h, Enabled: true, Whitelist: keystore.Anywhere()}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inFlight returns a server with one request on its way through it, and where its code will be.
func inFlight(t *testing.T, shutdown config.Shutdown) (*server, *grpc.Server, *grpc.ClientConn, slowStore, *buffer, <-chan string) {
	t.Helper()
	cfg, log := config.Default(), &buffer{}
	cfg.Shutdown = shutdown
	s := newServer(cfg, newLogger(cfg.Log, log))
	slow := slowStore{make(chan struct{}), make(chan struct{})}
	g, err := s.newGRPCServer(slow, nil, newDecisionLog(s.log, time.Now))
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(lis) }()
	t.Cleanup(g.Stop)
	conn := dial(t, lis.Addr().String())
	code := make(chan string, 1)
	go func() {
		c, err := tryCheck(t.Context(), t, conn, "slow", "10.1.2.3")
		if err != nil {
			c = "cut off"
		}
		code <- c
	}()
	<-slow.asked
	return s, g, conn, slow, log, code
}

// drains runs the drain and returns what is closed at its end.
func drains(s *server, g *grpc.Server, signals <-chan os.Signal) <-chan struct{} {
	done := make(chan struct{})
	go func() { s.drain(g, signals); close(done) }()
	return done
}

func TestDrainWaitsForRequestsInFlight(t *testing.T) {
	s, g, conn, slow, _, code := inFlight(t, config.Shutdown{Timeout: time.Hour})
	done := drains(s, g, nil)
	eventually(t, "no new requests are taken", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		return err != nil
	})
	select {
	case <-done:
		t.Fatal("drained with a request in flight")
	default:
	}
	close(slow.answer)
	if got := <-code; got != "VALID" {
		t.Errorf("the request in flight was %s", got)
	}
	<-done
}

func TestDrainEndsInTime(t *testing.T) {
	s, g, _, _, log, code := inFlight(t, config.Shutdown{Timeout: 10 * time.Millisecond})
	<-drains(s, g, nil)
	if got := <-code; got == "VALID" {
		t.Error("a request that was cut off was let through")
	}
	if !strings.Contains(log.String(), "their time is over") {
		t.Errorf("the log is %s", log)
	}
}

func TestDrainSecondSignal(t *testing.T) {
	s, g, _, _, log, code := inFlight(t, config.Shutdown{Drain: time.Hour, Timeout: time.Hour})
	signals := make(chan os.Signal)
	done := drains(s, g, signals)
	for ended := false; !ended; {
		select {
		case signals <- syscall.SIGTERM: // the first ones may be taken for that which began it
			time.Sleep(10 * time.Millisecond)
		case <-done:
			ended = true
		}
	}
	if got := <-code; got == "VALID" {
		t.Error("a request that was cut off was let through")
	}
	if !strings.Contains(log.String(), "on a second signal") {
		t.Errorf("the log is %s", log)
	}
}
