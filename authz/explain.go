package authz

import (
	"context"
	"fmt"
	"strings"
	"time"

	"extauthz/keystore"
)

// A Step describes one check of a decision to the operator.
type Step struct {
	Code   Code   // of the decision if the check fails
	Ran    bool   // false for the checks after the one that decided
	Holds  bool   // false if it did not run
	Detail string // a few words on the result; never the secret
}

// Explain makes the decision that [Authorizer.Authorize] would make, and describes every check
// in order. It spends no rate limits: the Decision's Limits are the state before the request.
func (a *Authorizer) Explain(ctx context.Context, r Request) (Decision, []Step, error) {
	e := &evaluation{a: a, ctx: ctx, request: r, peek: true}
	steps := make([]Step, len(checks))
	decision, decided := Decision{}, false
	var failure error
	for i, c := range checks {
		steps[i].Code = c.code
		if decided {
			continue
		}
		ok, err := c.holds(e)
		steps[i].Ran, steps[i].Holds = true, ok
		switch {
		case err != nil:
			decided, failure = true, err
			steps[i].Detail = err.Error()
		case !ok:
			decided, decision.Code = true, c.code
			fallthrough
		default:
			steps[i].Detail = c.explain(e, ok)
		}
	}
	if !decided {
		decision.Code = Valid
	}
	return e.decision(decision.Code), steps, failure
}

func (e *evaluation) explainPresent(ok bool) string {
	if !ok {
		return "the request carries no secret"
	}
	return "the request carries a secret"
}

func (e *evaluation) explainKnown(ok bool) string {
	switch {
	case ok && e.previous:
		return fmt.Sprintf("the secret is the previous one of %s, and works until %s", e.key.ID, e.key.Previous.Until.Format(time.RFC3339))
	case ok && e.key.Name != "":
		return fmt.Sprintf("the secret belongs to %s (%s)", e.key.ID, e.key.Name)
	case ok:
		return "the secret belongs to " + e.key.ID
	case len(e.request.Secret) > keystore.MaxSecretLen:
		return fmt.Sprintf("the secret is longer than %d bytes, so no key can have it", keystore.MaxSecretLen)
	case strings.Contains(string(e.request.Secret), ","):
		return "the secret contains a comma, as a repeated one does, so no key can have it"
	}
	return "no key has this secret"
}

func (e *evaluation) explainEnabled(ok bool) string {
	if !ok {
		return "the key is disabled"
	}
	return "the key is enabled"
}

func (e *evaluation) explainUnexpired(ok bool) string {
	switch {
	case e.key.Expires.IsZero():
		return "the key does not expire"
	case ok:
		return "the key expires at " + e.key.Expires.Format(time.RFC3339)
	}
	return "the key expired at " + e.key.Expires.Format(time.RFC3339)
}

func (e *evaluation) explainListed(ok bool) string {
	k, addr := e.key, e.request.ClientAddr.Unmap()
	switch {
	case k.Broken != nil:
		return "the key's record cannot be read: " + k.Broken.Error()
	case !k.Whitelist.Restricted():
		return "the key has no whitelist, so it may be used from any address"
	case !addr.IsValid() && e.wouldRefuse:
		return "the client address could not be determined, which would be refused as FORBIDDEN: the key is in report mode"
	case !addr.IsValid():
		return "the key has a whitelist, and the client address could not be determined"
	case !ok:
		return fmt.Sprintf("%s is in none of the key's %d ranges", addr, len(k.Whitelist.Prefixes()))
	case e.wouldRefuse:
		return fmt.Sprintf("%s is in none of the key's %d ranges, which would refuse it as FORBIDDEN: the key is in report mode", addr, len(k.Whitelist.Prefixes()))
	}
	for _, p := range k.Whitelist.Prefixes() {
		if p.Contains(addr) {
			return fmt.Sprintf("%s is in %s", addr, keystore.FormatWhitelistEntry(p))
		}
	}
	return fmt.Sprintf("%s is in the whitelist", addr)
}
