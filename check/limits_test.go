package check

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"extauthz/authz"
	"extauthz/keystore"
)

// TestDryRunObserved: Observe is called with what would have been refused.
func TestDryRunObserved(t *testing.T) {
	for _, code := range authz.Codes() {
		var seen Observation
		c := checker(t, Config{Authorizer: always(code), DryRun: true, Observe: func(_ context.Context, o *Observation) { seen = *o }})
		if o := check(t, c, send("x-api-key", "secret")); !o.Allowed() || codeOf(t, o) != code.String() {
			t.Errorf("%s: %+v", code, o)
		}
		if seen.Decision.Code != code || seen.LetThrough != (code != authz.Valid) {
			t.Errorf("%s: observed %+v", code, seen)
		}
	}
}

func TestDryRun(t *testing.T) {
	down := decides(func(context.Context, authz.Request) (authz.Decision, error) {
		return authz.Decision{}, errors.New("down")
	})
	panics := decides(func(context.Context, authz.Request) (authz.Decision, error) { panic("no") })
	for name, a := range map[string]Authorizer{"down": down, "panics": panics, "code that is none": always(200).without()} {
		for _, forward := range []bool{false, true} {
			c := checker(t, Config{Authorizer: a, DryRun: true, ForwardKey: forward})
			for _, ask := range []ask{send(), send("x-api-key", "secret")} {
				o := check(t, c, ask)
				if codeOf(t, o) != "UNAVAILABLE" || !o.Allowed() {
					t.Errorf("%s: %+v", name, o)
				}
				if !slices.Contains(o.RemoveHeaders, keyIDHeader) {
					t.Errorf("%s: removed are %s", name, o.RemoveHeaders)
				}
			}
		}
	}
}

// A request that is checked again is charged once, unless its caller could have chosen its id.
func TestRepeatedRequestSpendsOnce(t *testing.T) {
	k := keyFor("secret")
	k.Ratelimits = []keystore.Ratelimit{{Name: "requests", Limit: 1, Duration: time.Minute}}
	for _, test := range []struct {
		id, header string
		again      string // the result of the second check
	}{
		{"13354639564894094939", "r1", "VALID"},
		{"13354639564894094939", "13354639564894094939", "RATE_LIMITED"},
		{"", "r1", "RATE_LIMITED"},
		{"", "", "RATE_LIMITED"},
	} {
		c := checker(t, Config{Authorizer: authorizer(k)})
		a := Attributes{Peer: "192.0.2.1", Path: "/", Headers: fields([]string{"x-api-key", "secret", "x-request-id", test.header})}
		for i, want := range []string{"VALID", test.again, "RATE_LIMITED"} {
			var o Outcome
			if a.ID = test.id; i == 2 {
				a.ID = "984001446484667826"
			}
			c.Check(t.Context(), &a, &o)
			if got := codeOf(t, &o); got != want {
				t.Errorf("id %q, x-request-id %q: check %d is %s, want %s", test.id, test.header, i, got, want)
			}
		}
	}
}

// TestRateLimited uses a limiter: the headers report what remains.
func TestRateLimited(t *testing.T) {
	k := keyFor("secret")
	k.Ratelimits = []keystore.Ratelimit{{Name: "requests", Limit: 2, Duration: time.Minute}}
	c := checker(t, Config{Authorizer: authorizer(k)})
	for _, want := range []string{
		"VALID x-ratelimit-limit=2 x-ratelimit-remaining=1 x-ratelimit-reset=60",
		"VALID x-ratelimit-limit=2 x-ratelimit-remaining=0 x-ratelimit-reset=60",
		"RATE_LIMITED x-ratelimit-limit=2 x-ratelimit-remaining=0 x-ratelimit-reset=60 retry-after=60",
	} {
		var o Outcome
		for _, a := range send("x-api-key", "secret").forms {
			c.Check(t.Context(), a, &o)
			break
		}
		got := codeOf(t, &o)
		for _, h := range o.ResponseHeaders {
			if strings.HasPrefix(h.Name, "x-ratelimit-") || h.Name == "retry-after" {
				got += " " + h.Name + "=" + h.Value
			}
		}
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
