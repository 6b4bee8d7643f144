package check

import (
	"context"
	"testing"

	"extauthz/authz"
	"extauthz/keystore"
)

// TryCheck is equivalent to Check, except for decisions that would have to wait, which it neither records nor
// observes.
func TestTryCheck(t *testing.T) {
	waits := false
	calls := 0
	c := checker(t, Config{
		Authorizer: decides(func(_ context.Context, r authz.Request) (authz.Decision, error) {
			if r.NoWait && waits {
				return authz.Decision{}, keystore.ErrNotInMemory
			}
			return authz.Decision{Code: authz.Valid, Key: &keystore.Key{ID: "key_a"}}, nil
		}),
		Record:  func(context.Context, *Observation) bool { calls++; return true },
		Observe: func(context.Context, *Observation) { calls++ },
	})
	try := func(want bool, wantCode string, wantCalls int) {
		t.Helper()
		for _, a := range send("x-api-key", "s").forms {
			var o Outcome
			calls = 0
			if _, got := c.TryCheck(t.Context(), a, &o); got != want || codeOf(t, &o) != wantCode || calls != wantCalls {
				t.Errorf("got %t, %s, %d calls; want %t, %s, %d", got, codeOf(t, &o), calls, want, wantCode, wantCalls)
			}
			if c.Check(t.Context(), a, &o); codeOf(t, &o) != "VALID" {
				t.Errorf("Check: %s", codeOf(t, &o))
			}
		}
	}
	try(true, "VALID", 2)
	waits = true
	try(false, "UNAVAILABLE", 0)
}

func TestTryCheckThatPanics(t *testing.T) {
	boom := decides(func(context.Context, authz.Request) (authz.Decision, error) { panic("boom") })
	for _, config := range []Config{
		{Authorizer: boom},
		{Authorizer: always(authz.Valid), Observe: func(context.Context, *Observation) { panic("boom") }},
	} {
		for _, a := range send("x-api-key", "s").forms {
			var o Outcome
			if _, done := checker(t, config).TryCheck(t.Context(), a, &o); !done || o.Allowed() {
				t.Errorf("got %+v", o)
			}
		}
	}
}

// A check that waits begins once: Continue has the context of TryCheck.
func TestContinue(t *testing.T) {
	type began struct{}
	begins, continued := 0, false
	c := checker(t, Config{
		Authorizer: decides(func(ctx context.Context, r authz.Request) (authz.Decision, error) {
			if r.NoWait {
				return authz.Decision{}, keystore.ErrNotInMemory
			}
			continued = ctx.Value(began{}) != nil
			return authz.Decision{Code: authz.Valid, Key: &keystore.Key{ID: "key_a"}}, nil
		}),
		Begin: func(ctx context.Context) context.Context {
			begins++
			return context.WithValue(ctx, began{}, begins)
		},
	})
	for _, a := range send("x-api-key", "s").forms {
		var o Outcome
		begins, continued = 0, false
		begun, done := c.TryCheck(t.Context(), a, &o)
		if done {
			t.Fatal("it did not have to wait")
		}
		if c.Continue(begun, a, &o); codeOf(t, &o) != "VALID" || begins != 1 || !continued {
			t.Errorf("got %s, began %d times, with its context %t", codeOf(t, &o), begins, continued)
		}
	}
}
