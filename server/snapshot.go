package server

import (
	"context"
	"sync"
	"time"

	"extauthz/backend"
	"extauthz/check"
	"extauthz/config"
	"extauthz/envoy"
)

// A snapshot is a configuration with everything that was opened for it. It is immutable: a reload makes
// another one, which shares with it what has not changed.
type snapshot struct {
	cfg     *config.Config
	limits  *limiter
	usage   *usageRecorder // nil if usage is not recorded
	checker *check.Checker

	decisions *decisionFile // nil if there is no decision log
	tracing   *tracer       // nil if nothing is traced
}

// A limiter is a rate limiter whose close may be called more than once.
type limiter struct {
	backend.Limiter
	close func()
}

// newSnapshot opens everything that cfg names. before is the current snapshot; nil at the start.
func (s *server) newSnapshot(ctx context.Context, cfg *config.Config, before *snapshot) (next *snapshot, err error) {
	next = &snapshot{cfg: cfg}
	defer func() {
		if err != nil {
			next.close(before)
		}
	}()
	if before != nil && sameLimiter(before.cfg.Ratelimit, cfg.Ratelimit) {
		next.limits = before.limits
	} else {
		l, err := backend.OpenLimiter(ctx, cfg.Ratelimit)
		if err != nil {
			return next, err
		}
		next.limits = &limiter{l, sync.OnceFunc(l.Close)}
		s.atEnd(next.limits.close)
	}
	if before != nil && before.cfg.Usage == cfg.Usage {
		next.usage = before.usage
	} else if next.usage, err = s.openUsage(ctx, cfg); err != nil {
		return next, err
	}
	if before != nil && before.cfg.DecisionLog == cfg.DecisionLog {
		next.decisions = before.decisions
	} else if next.decisions, err = s.openDecisionLog(cfg.DecisionLog); err != nil {
		return next, err
	}
	if before != nil && before.cfg.Tracing == cfg.Tracing {
		next.tracing = before.tracing
	} else if next.tracing, err = s.openTracing(ctx, cfg.Tracing); err != nil {
		return next, err
	}
	next.checker, err = s.newChecker(next)
	return next, err
}

// sameLimiter reports whether two configurations count in the same place.
func sameLimiter(a, b config.Ratelimit) bool {
	a.Headers, a.RefuseOnError = b.Headers, b.RefuseOnError
	return a == b
}

// close closes everything that other does not share. other may be nil.
func (n *snapshot) close(other *snapshot) {
	if n.limits != nil && (other == nil || n.limits != other.limits) {
		n.limits.close()
	}
	if n.usage != nil && (other == nil || n.usage != other.usage) {
		n.usage.close()
	}
	if n.decisions != nil && (other == nil || n.decisions != other.decisions) {
		n.decisions.close()
	}
	if n.tracing != nil && (other == nil || n.tracing != other.tracing) {
		n.tracing.close()
	}
}

// newChecker returns what checks requests for a snapshot.
func (s *server) newChecker(n *snapshot) (*check.Checker, error) {
	routes := &routeLog{log: s.log, metrics: s.metrics, refuses: n.cfg.Ratelimit.RefuseOnError}
	authorizer := backend.NewAuthorizer(n.cfg, s.keys, n.tracing.limiter(n.limits), backend.AuthorizerHooks{
		BadRoute: routes.bad, LimiterFailed: routes.limiterFailed,
	})
	recorder := n.usage
	return backend.NewChecker(n.cfg, authorizer, backend.CheckerHooks{
		Begin:  n.tracing.begin(),
		Record: n.decisions.hook(n.tracing),
		Observe: func(ctx context.Context, o *check.Observation) {
			trace, _ := n.tracing.traceOf(ctx)
			s.metrics.observe(o, trace)
			s.decisions.observe(ctx, o)
			s.peers.observe(ctx)
			recorder.observe(o)
			n.tracing.end(ctx, o)
		},
		ObservePanicked:  s.panics.observePanicked,
		UnknownExtension: routes.unknownExtension,
	})
}

// options returns how the service answers.
func (n *snapshot) options() []envoy.Option {
	options := []envoy.Option{envoy.MaxMessageSize(n.cfg.GRPC.MaxMessageSize)}
	if !n.cfg.SetPath {
		options = append(options, envoy.KeepPath())
	}
	return options
}

// graceful is how long the parts that a reload replaced stay open for the requests in flight: longer than
// any of them takes.
const graceful = 30 * time.Second

// use makes n the current snapshot. It cannot fail, so that a reload takes effect as a whole or not at all.
func (s *server) use(n *snapshot) {
	before := s.now.Swap(n)
	s.service.Set(n.checker, n.options()...)
	s.level.set(n.cfg.Log, s.options.Log)
	s.decisions.all.Store(n.cfg.Log.Decisions == config.LogAll)
	s.metrics.owners.setLimit(n.cfg.Metrics.Owners)
	s.metrics.dryRun.Set(0)
	if n.cfg.DryRun {
		s.metrics.dryRun.Set(1)
	}
	if n.cfg.DryRun && (before == nil || !before.cfg.DryRun) {
		s.log.Warn("DRY RUN: every request is let through, with any key or none")
	}
	if before == nil {
		return
	}
	if before.cfg.Memory != n.cfg.Memory {
		s.memory.set(n.cfg.Memory, s.log)
	}
	time.AfterFunc(graceful, func() { before.close(n) })
}
