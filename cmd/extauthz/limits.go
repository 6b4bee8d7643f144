package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"extauthz/authz"
	"extauthz/config"
	"extauthz/keystore"
	"extauthz/ratelimit"
	"extauthz/ratelimit/memory"
	"extauthz/ratelimit/redis"
)

// A limiter is what holds the rate limits, and what ends it.
type limiter struct {
	ratelimit.Limiter
	name  string // for people; without a password
	close func()
}

// openLimiter opens what holds the rate limits. Where its server cannot be reached, that is no
// error: it answers as soon as the server does.
//
// A new kind of limiter is one case here.
func openLimiter(ctx context.Context, c config.Ratelimit) (*limiter, error) {
	if c.Store != config.LimitsInRedis {
		return &limiter{memory.New(time.Now), config.LimitsInMemory, func() {}}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second) // for the first attempt alone
	defer cancel()
	l, err := redis.Open(ctx, redis.Options{URL: c.URL, Prefix: c.Prefix, Timeout: c.Timeout})
	if err != nil {
		return nil, fmt.Errorf("ratelimit: %w", err)
	}
	return &limiter{l, config.LimitsInRedis, l.Close}, nil
}

// rightsHooks hear of what goes wrong with permissions and rate limits. Each may be nil.
type rightsHooks struct {
	badText       func(error)                 // a route asks in a way that cannot be read
	limiterFailed func(err error, first bool) // the rate limits could not tell
}

// newAuthorizer returns what decides as the configuration says.
func newAuthorizer(c *config.Config, s keystore.Store, l ratelimit.Limiter, hooks rightsHooks) *authz.Authorizer {
	owners := make(map[string][]keystore.Ratelimit, len(c.ExternalIDs))
	for id, o := range c.ExternalIDs {
		owners[id] = o.Ratelimits
	}
	return authz.New(s, time.Now,
		authz.WithRoles(c.Roles),
		authz.WithBadTexts(hooks.badText),
		authz.WithLimits(authz.Limits{
			Limiter: l, Owners: owners, RefuseOnError: c.Ratelimit.RefuseOnError, Failed: hooks.limiterFailed,
		}))
}

// A rightsLog tells of what goes wrong with permissions and rate limits, on the log and in the
// metrics.
type rightsLog struct {
	log           *slog.Logger
	refuses       bool // what the limiter cannot tell
	badTexts      prometheus.Counter
	limiterFailed prometheus.Counter
}

func newRightsLog(log *slog.Logger, c *config.Config, m *metrics) *rightsLog {
	l := &rightsLog{
		log: log, refuses: c.Ratelimit.RefuseOnError,
		badTexts:      counter("extauthz_bad_route_texts_total", "Texts in which a route asks for permissions or names rate limits, and that cannot be read, so that its requests are refused."),
		limiterFailed: counter("extauthz_ratelimit_failures_total", "Checks about which the rate limits could not tell."),
	}
	dryRun := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "extauthz_dry_run", Help: "1 where every request is let through, whatever is decided.",
	})
	if c.DryRun {
		dryRun.Set(1)
		log.Warn("DRY RUN: every request is let through, with any key or none")
	}
	m.registry.MustRegister(l.badTexts, l.limiterFailed, dryRun)
	return l
}

func (l *rightsLog) hooks() rightsHooks { return rightsHooks{l.badText, l.failed} }

func (l *rightsLog) badText(err error) {
	l.badTexts.Inc()
	l.log.Error("what a route asks for cannot be read, so that its requests are refused as UNAVAILABLE", "error", clip(oneLine(err)))
}

func (l *rightsLog) unknownExtension(name string) {
	l.log.Warn("a route sends a context extension that asks for nothing: write permissions or ratelimits", "name", name)
}

func (l *rightsLog) failed(err error, first bool) {
	l.limiterFailed.Inc()
	if !first {
		return
	}
	const down = "the rate limits cannot tell: until they can, requests under them are "
	if l.refuses {
		l.log.Error(down+"refused as UNAVAILABLE", "error", clip(oneLine(err)))
	} else {
		l.log.Error(down+"let through", "error", clip(oneLine(err)))
	}
}
