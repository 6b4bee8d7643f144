package server

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"extauthz/config"
	"extauthz/keystore"
	"extauthz/polltest"
	"extauthz/proctest"
)

// slowStore answers when the test lets it.
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

// inFlight returns a server with one request in flight, and a channel for whether it was allowed.
func inFlight(t *testing.T, shutdown config.Shutdown) (*server, *grpc.ClientConn, slowStore, *proctest.Buffer, <-chan bool) {
	t.Helper()
	cfg, log := config.Default(), &proctest.Buffer{}
	cfg.Shutdown = shutdown
	s := testServer(t, cfg, log)
	slow := slowStore{make(chan struct{}), make(chan struct{})}
	conn := serveOver(t, s, cfg, slow)
	valid := make(chan bool, 1)
	go func() { valid <- allowed(t.Context(), conn, "slow", "10.1.2.3") }()
	<-slow.asked
	return s, conn, slow, log, valid
}

// drains runs the drain and returns a channel that is closed at its end.
func drains(s *server, signals <-chan os.Signal) <-chan struct{} {
	done := make(chan struct{})
	go func() { s.drain(signals); s.options.Log.Close(); close(done) }()
	return done
}

func TestDrainWaitsForRequestsInFlight(t *testing.T) {
	s, conn, slow, _, valid := inFlight(t, config.Shutdown{Timeout: time.Hour})
	done := drains(s, nil)
	polltest.Until(t, "no new requests are taken", func() bool {
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
	if !<-valid {
		t.Error("the request in flight was not answered")
	}
	<-done
}

func TestDrainEndsInTime(t *testing.T) {
	s, _, _, log, valid := inFlight(t, config.Shutdown{Timeout: 10 * time.Millisecond})
	<-drains(s, nil)
	if <-valid {
		t.Error("a request that was cut off was let through")
	}
	if !strings.Contains(log.String(), "shutdown.timeout has expired") {
		t.Errorf("the log is %s", log)
	}
}

func TestDrainSecondSignal(t *testing.T) {
	s, _, _, log, valid := inFlight(t, config.Shutdown{Drain: time.Hour, Timeout: time.Hour})
	signals := make(chan os.Signal)
	done := drains(s, signals)
	for ended := false; !ended; {
		select {
		case signals <- syscall.SIGTERM: // the first ones may be treated as the signal that began the drain
			time.Sleep(10 * time.Millisecond)
		case <-done:
			ended = true
		}
	}
	if <-valid {
		t.Error("a request that was cut off was let through")
	}
	if !strings.Contains(log.String(), "on a second signal") {
		t.Errorf("the log is %s", log)
	}
}
