package server

import (
	"context"
	"errors"
	"time"

	"extauthz/check"
	"extauthz/config"
)

// An InProcess checks requests as the server does, without a gRPC listener: for a front end in the same
// process. It reloads the configuration and the keys when their files change. It is safe for concurrent
// use.
type InProcess struct {
	server *server
	stop   func()
}

// Open opens all that a configuration names. o.Signals is not used, and the configuration that o.Load
// returns must have been read with InProcess. It waits up to connectTimeout for the servers of the key store, the rate
// limiter and usage: until one answers, requests that need it are refused as UNAVAILABLE. The admin listener is opened
// in the background, and as soon as its address is free: a front end may open the next configuration before it closes
// the last one.
func Open(ctx context.Context, o Options) (*InProcess, error) {
	s := newServer(o)
	s.inProcess = true
	ctx, cancel := context.WithCancel(ctx)
	p := &InProcess{server: s, stop: cancel}
	if err := s.open(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// connectTimeout limits how long Open waits for all servers of the configuration together. The thread that
// waits may be one on which a proxy's updates and its health checks depend. Connecting goes on in the background.
const connectTimeout = 250 * time.Millisecond

// open opens everything but listeners, and starts the background tasks.
func (s *server) open(ctx context.Context) error {
	cfg, err := s.options.Load()
	if err != nil {
		return err
	}
	s.loaded(cfg)
	connect, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := s.startKeys(connect, cfg); err != nil {
		return err
	}
	if err := s.useFirst(connect, cfg); err != nil {
		return err
	}
	s.startBackground(ctx)
	go s.followParts(ctx)
	go s.awaitAdmin(ctx, cfg)
	attrs := []any{"listen", "none", "store", cfg.Store.Name(), "ratelimits", cfg.Ratelimit.Store}
	if s.keys.files != nil {
		attrs = append(attrs, "keys", s.keys.files.Len())
	}
	s.log.Info("checking requests in this process", attrs...)
	return nil
}

// followParts logs the end of any part of the server until ctx ends. The other parts continue with the keys
// and the configuration that they have.
func (s *server) followParts(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-s.storeReady:
			s.storeAnswered(err)
		case err := <-s.failed:
			s.log.Error("a part of the server ended", "error", clip(oneLine(err)))
			s.notServing(clip(oneLine(err)))
		}
	}
}

const adminEvery = time.Second

// awaitAdmin opens the admin listener, and tries again until it can.
func (s *server) awaitAdmin(ctx context.Context, cfg *config.Config) {
	if cfg.Admin.Listen == (config.Address{}) {
		return
	}
	reported := ""
	for {
		address, err := s.startAdmin(ctx, cfg)
		if err == nil {
			s.log.Info("serving the admin listener", "admin", address)
			return
		}
		if ctx.Err() != nil {
			return
		}
		if why := clip(oneLine(err)); why != reported {
			s.log.Warn("the admin listener cannot be opened yet: it is tried again each second", "error", why)
			reported = why
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(adminEvery):
		}
	}
}

// Checker returns what checks a request that begins now. It may be another one after a reload.
func (p *InProcess) Checker() *check.Checker { return p.server.now.Load().checker }

// Patience returns how long a check may take that has to wait for the key store or the rate limiter.
// It is longer than these take until they give up.
func (p *InProcess) Patience() time.Duration {
	cfg := p.server.now.Load().cfg
	return 2 * (cfg.Cache.LookupTimeout + cfg.Ratelimit.Timeout)
}

// ReportPanic counts and logs a request that was refused because the front end panicked.
func (p *InProcess) ReportPanic(err error) { p.server.panics.observePanicked(err) }

var errClosed = errors.New("the server was closed")

// Close ends what goes on in the background, and writes what is still to be written. Checks that are
// under way may be refused.
func (p *InProcess) Close() {
	p.stop()
	if p.server.log != nil {
		p.server.log.Info("no longer checking requests in this process")
	}
	p.server.notServing(errClosed.Error())
	p.server.close()
}
