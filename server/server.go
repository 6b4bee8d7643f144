// Package server is the running program: the gRPC listener that Envoys call, the admin listener,
// and the metrics and logs of both.
package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"extauthz/backend"
	"extauthz/config"
	"extauthz/envoy"
	"extauthz/strictyaml"
)

// Options are what [Run] needs.
type Options struct {
	Load func() (*config.Config, error) // reads the configuration
	Log  *LogWriter                     // one line for each event

	// Signals are those of the process: SIGHUP reloads the configuration and the keys, any other one
	// stops the server.
	Signals <-chan os.Signal

	Version, Revision string // of the build
}

// Run serves until a signal or the end of ctx stops it, and then drains. While it starts, a signal
// stops it at once. It returns an error if it cannot start, or fails while it runs.
func Run(ctx context.Context, o Options) error {
	s := newServer(o)
	defer s.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	started := make(chan error, 1)
	go func() { started <- s.start(ctx) }() // Run does not wait for it: reading large files takes time
	again := false
	for {
		select {
		case err := <-started:
			if err != nil {
				return err
			}
			if again {
				s.reload()
			}
			return s.untilStopped(ctx)
		case sig := <-o.Signals:
			if again = again || sig == syscall.SIGHUP; sig != syscall.SIGHUP {
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// A server is the gRPC server, the admin listener, and what they share.
type server struct {
	options   Options
	inProcess bool // there is no gRPC listener
	level     *liveHandler
	log       *slog.Logger
	metrics   *metrics
	ready     readiness
	status    status
	health    *health.Server
	keys      *keys
	decisions *decisionLog
	peers     *peerLog
	panics    *panicLog
	memory    memory

	now     atomic.Pointer[snapshot] // nil until the server has started
	service *envoy.Server            // checks requests by the snapshot
	front   *front                   // serves the service

	certificates *backend.ServerTLS               // nil without TLS
	tls          credentials.TransportCredentials // nil without TLS

	reloadConfig, reloadKeys chan struct{} // each holds a value if a reload is wanted
	failed                   chan error    // why a part of the server ended
	storeReady               <-chan error  // nil if the store was ready at once
	storeDown                bool          // the store was unreachable at the start

	mu      sync.Mutex
	closed  bool
	closers []func()
}

func newServer(o Options) *server {
	return &server{
		options: o, metrics: newMetrics(o), health: health.NewServer(), service: new(envoy.Server),
		reloadConfig: make(chan struct{}, 1), reloadKeys: make(chan struct{}, 1),
		failed: make(chan error, 3), // one for each part
	}
}

// atEnd registers f to be called by close. It calls f at once if close was called before.
func (s *server) atEnd(f func()) {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.closers = append(s.closers, f)
	}
	s.mu.Unlock()
	if closed {
		f()
	}
}

// listen opens a listener. close closes it.
func (s *server) listen(ctx context.Context, a config.Address, socket config.Socket) (net.Listener, error) {
	s.mu.Lock() // close waits until the socket is registered
	defer s.mu.Unlock()
	if s.closed {
		return nil, context.Canceled
	}
	lis, err := listen(ctx, a, socket)
	if err == nil {
		s.closers = append(s.closers, func() { _ = lis.Close() })
	}
	return lis, err
}

// close calls the registered functions, the last one first.
func (s *server) close() {
	s.mu.Lock()
	closers := s.closers
	s.closed, s.closers = true, nil
	s.mu.Unlock()
	for _, f := range slices.Backward(closers) {
		f()
	}
}

// maxWarnings is the maximum number of warnings that are logged at once: each of many keys may have one.
const maxWarnings = 20

// warn logs settings that are allowed, but probably a mistake.
func (s *server) warn(warnings strictyaml.Errors) {
	for i, w := range warnings {
		if i == maxWarnings {
			s.log.Warn("more suspicious settings: `extauthz validate` lists them", "more", len(warnings)-i)
			return
		}
		s.log.Warn("suspicious setting", "warning", w.Error())
	}
}

// untilStopped handles signals until one of them, or the end of ctx, stops the server.
func (s *server) untilStopped(ctx context.Context) error {
	for {
		select {
		case sig := <-s.options.Signals:
			if sig == syscall.SIGHUP {
				s.reload()
				continue
			}
			s.log.Info("stopping", "signal", sig.String(), "drain", s.now.Load().cfg.Shutdown.Drain.String())
			s.drain(s.options.Signals)
			return nil
		case <-ctx.Done():
			s.drain(s.options.Signals)
			return nil
		case err := <-s.storeReady:
			s.storeAnswered(err)
		case err := <-s.failed:
			return fmt.Errorf("serving: %w", err)
		}
	}
}

// serviceName is the service in health checks, beside "" for the whole server.
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
