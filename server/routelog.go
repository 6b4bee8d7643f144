package server

import (
	"log/slog"
)

// A routeLog logs and counts requirements of routes and rate limits that cannot be applied.
type routeLog struct {
	log     *slog.Logger
	metrics *metrics
	refuses bool // requests if the limiter does not answer
}

func (l *routeLog) bad(err error) {
	l.metrics.invalidRoutes.Inc()
	l.log.Error("the requirements of a route cannot be parsed, so its requests are refused as UNAVAILABLE", "error", clip(oneLine(err)))
}

func (l *routeLog) unknownExtension(name string) {
	l.log.Warn("a route sends an unknown context extension: write permissions or ratelimits", "name", name)
}

func (l *routeLog) limiterFailed(err error, first bool) {
	l.metrics.limiterFailed.Inc()
	if !first {
		return
	}
	const down = "the rate limiter does not answer: until it does, requests under a limit are "
	if l.refuses {
		l.log.Error(down+"refused as UNAVAILABLE", "error", clip(oneLine(err)))
	} else {
		l.log.Error(down+"let through", "error", clip(oneLine(err)))
	}
}
