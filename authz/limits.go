package authz

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"extauthz/keystore"
	"extauthz/ratelimit"
)

var errNoLimiter = errors.New("the key has rate limits, but no limiter is configured")

// withinLimits charges the request to the key's rate limits. It is the last check, so that a
// refused request spends nothing.
func (e *evaluation) withinLimits() (bool, error) {
	var costs ratelimit.Costs
	if e.request.Ratelimits != "" {
		var err error
		if costs, err = e.a.costs.get(e.request.Ratelimits, e.a.badRequirement); err != nil {
			return false, err
		}
	}
	if e.charge(costs); len(e.charges) == 0 {
		return true, nil
	}
	limits := &e.a.limits
	if limits.Limiter == nil {
		return false, errNoLimiter
	}
	if e.request.NoWait && limits.Remote {
		return false, keystore.ErrNotInMemory
	}
	take := limits.Limiter.Take
	if e.peek {
		take = limits.Limiter.Look
	}
	result, err := take(e.ctx, ratelimit.Subject{Key: e.key.ID, Owner: e.key.ExternalID, Request: e.request.ID}, e.charges)
	if !e.peek {
		e.a.reportLimiter(err)
	}
	if err != nil {
		e.limitErr = err
		if limits.RefuseOnError {
			return false, err
		}
		return true, nil
	}
	e.limits = &result
	return !result.Limited(), nil
}

// charge lists the charges of the request: 1 for each limit that counts every request, and the
// route's costs for the limits that it names.
func (e *evaluation) charge(costs ratelimit.Costs) {
	add := func(l *keystore.Ratelimit, shared bool) {
		cost, named := costs.Of(l.Name)
		switch {
		case !named && l.OnDemand:
			return
		case !named:
			cost = 1
		}
		e.charges = append(e.charges, ratelimit.Charge{Name: l.Name, Limit: l.Limit, Duration: l.Duration, Shared: shared, Cost: cost})
	}
	for i := range e.key.Ratelimits {
		add(&e.key.Ratelimits[i], false)
	}
	if e.key.ExternalID == "" {
		return
	}
	owners := e.a.limits.Owners[e.key.ExternalID]
	for i := range owners {
		if !slices.ContainsFunc(e.key.Ratelimits, func(own keystore.Ratelimit) bool { return own.Name == owners[i].Name }) {
			add(&owners[i], true)
		}
	}
}

// reportLimiter reports failures of the limiter, and which is the first of a series.
func (a *Authorizer) reportLimiter(err error) {
	if err == nil {
		if a.limiterDown.Load() {
			a.limiterDown.Store(false)
		}
		return
	}
	if first := !a.limiterDown.Swap(true); a.limits.Failed != nil {
		a.limits.Failed(err, first)
	}
}

func (e *evaluation) explainWithinLimits(bool) string {
	switch {
	case len(e.charges) == 0:
		return "no rate limit counts this request"
	case e.limitErr != nil:
		return "the rate limiter failed, so the request is allowed: " + e.limitErr.Error()
	}
	lines := make([]string, len(e.limits.Limits))
	for i, l := range e.limits.Limits {
		lines[i] = fmt.Sprintf("%s: cost %d, %d of %d in %s left", l.Name, l.Cost, l.Remaining, l.Limit, l.Duration)
		if l.Wait > 0 {
			lines[i] += fmt.Sprintf(", room in %s", l.Wait)
		}
	}
	return strings.Join(lines, "; ")
}
