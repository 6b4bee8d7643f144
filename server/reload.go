package server

import (
	"context"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"extauthz/config"
	"extauthz/files"
	"extauthz/keystore/cache"
	"extauthz/strictyaml"
)

const (
	// A changed configuration is read once its files are the same in two consecutive checks: a file that
	// is still being written may be valid, too.
	configEvery = 200 * time.Millisecond

	// configRetry is how often a configuration that failed is tried again: the cause may be outside of it.
	configRetry = time.Second
)

// A configWatch follows the files of the configuration.
type configWatch struct {
	files  []string
	used   string    // their stamp when they were last read
	seen   string    // their stamp at the last check
	failed string    // why they cannot be used; "" if they can
	tried  time.Time // when they were last read
	logged []string  // the fields that need a restart, as they were last logged
}

// reload requests that the configuration and the keys are read again in the background, and rotates the
// decision log.
func (s *server) reload() {
	if d := s.now.Load().decisions; d != nil {
		d.Rotate()
	}
	for _, c := range []chan struct{}{s.reloadConfig, s.reloadKeys} {
		select {
		case c <- struct{}{}:
		default: // it is requested already
		}
	}
}

// followConfig reads the configuration again when its files change or reload is called, until ctx ends.
func (s *server) followConfig(ctx context.Context) {
	w := &configWatch{files: s.now.Load().cfg.Files}
	if len(w.files) == 0 || !isFile(w.files[0]) {
		return // there is no file, or a pipe, which can be read only once
	}
	tick := time.NewTicker(configEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.reloadConfig:
			s.readConfig(ctx, w, true)
		case <-tick.C:
			if w.changed() {
				s.readConfig(ctx, w, false)
			}
		}
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// changed reports whether the files must be read.
func (w *configWatch) changed() bool {
	now := w.stamp()
	quiet := now == w.seen
	w.seen = now
	return quiet && now != w.used || w.failed != "" && time.Since(w.tried) >= configRetry
}

func (w *configWatch) stamp() string {
	var b strings.Builder
	for _, f := range w.files {
		b.WriteString(f + " " + files.Stamp(f) + "\n")
	}
	return b.String()
}

// readConfig reads the configuration, and applies it if it is valid. The outcome is always logged if
// requested is true; otherwise only if it is news.
func (s *server) readConfig(ctx context.Context, w *configWatch, requested bool) {
	w.used, w.tried = w.stamp(), time.Now()
	next, err := s.options.Load()
	if !slices.Equal(next.Files, w.files) {
		w.files = next.Files
		w.used = w.stamp()
	}
	var changed, restart []string
	var updated *config.Config
	if err == nil {
		updated, changed, restart = s.now.Load().cfg.Update(next)
		if len(changed) > 0 {
			err = s.apply(ctx, updated)
		}
	}
	s.status.configRead(err)
	if err != nil {
		why := clip(err.Error())
		if requested || why != w.failed {
			s.metrics.config.reload(err)
			s.log.Error("reloading the configuration failed: the last good one stays", "error", why)
		}
		w.failed = why
		return
	}
	if len(changed) > 0 || w.failed != "" || requested {
		s.metrics.config.reload(nil)
		s.log.Info("reloaded the configuration", "changed", strings.Join(changed, " "))
	}
	if len(restart) > 0 && (requested || !slices.Equal(restart, w.logged)) {
		s.log.Warn("restart the server to change these fields: the others are in use", "fields", strings.Join(restart, " "))
	}
	w.failed, w.logged = "", restart
}

// apply makes cfg the current configuration, or returns an error and changes nothing.
func (s *server) apply(ctx context.Context, cfg *config.Config) error {
	before := s.now.Load()
	if s.keys.cache != nil {
		if err := cacheConfig(cfg.Cache).Validate(); err != nil {
			return err
		}
	}
	next, err := s.newSnapshot(ctx, cfg, before)
	if err != nil {
		return err
	}
	if before.cfg.Socket != cfg.Socket {
		if err := s.setSockets(cfg); err != nil {
			next.close(before)
			return errors.Join(err, s.setSockets(before.cfg))
		}
	}
	// Settings of connections apply to new ones only.
	if s.front != nil && (before.cfg.GRPC.MaxConnectionAge != cfg.GRPC.MaxConnectionAge || !reflect.DeepEqual(before.cfg.TLS, cfg.TLS)) {
		if s.certificates != nil {
			s.certificates.Configure(cfg.TLS)
		}
		if err := s.front.serve(s.newGRPCServer(cfg.GRPC)); err != nil {
			if s.certificates != nil {
				s.certificates.Configure(before.cfg.TLS)
			}
			next.close(before)
			return errors.Join(err, s.setSockets(before.cfg))
		}
	}
	if s.keys.cache != nil && before.cfg.Cache != cfg.Cache {
		_ = s.keys.cache.Configure(cacheConfig(cfg.Cache)) // it is valid
	}
	s.use(next)
	s.warn(slices.DeleteFunc(slices.Clone(cfg.Warnings), func(w *strictyaml.Error) bool {
		return slices.ContainsFunc(before.cfg.Warnings, func(b *strictyaml.Error) bool { return b.Error() == w.Error() })
	}))
	return nil
}

// setSockets gives the listeners that are unix sockets the mode and the group of a configuration.
func (s *server) setSockets(cfg *config.Config) error {
	var errs []error
	for _, a := range []config.Address{cfg.Listen, cfg.Admin.Listen} {
		if a.Network == "unix" {
			errs = append(errs, setSocket(a.Address, cfg.Socket))
		}
	}
	return errors.Join(errs...)
}

func cacheConfig(c config.Cache) cache.Config {
	return cache.Config{
		Size: c.Size, TTL: c.TTL, MaxStale: c.MaxStale, NegativeSize: c.NegativeSize, NegativeTTL: c.NegativeTTL,
		MaxInFlight: c.MaxInFlight, LookupTimeout: c.LookupTimeout,
	}
}
