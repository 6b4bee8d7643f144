package check

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"extauthz/authz"
	"extauthz/keystore"
)

// Tests of failures: no decision can be made, or something panics.

func TestNoDecision(t *testing.T) {
	key := &keystore.Key{ID: "key_a"}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	ending, end := context.WithCancel(t.Context())
	down := errors.New("store: connection refused")
	tests := []struct {
		name    string
		ctx     context.Context
		decides decides
		secret  string
		err     string
	}{
		{"an error beside VALID", t.Context(), func(context.Context, authz.Request) (authz.Decision, error) {
			return authz.Decision{Code: authz.Valid, Key: key}, down
		}, "s", "connection refused"},
		{"an error", t.Context(), func(context.Context, authz.Request) (authz.Decision, error) {
			return authz.Decision{Key: key}, down
		}, "s", "connection refused"},
		{"VALID without a key", t.Context(), always(authz.Valid).without(), "s", "without a secret or a key"},
		{"VALID without a secret", t.Context(), always(authz.Valid), "", "without a secret or a key"},
		{"too late", ended, always(authz.Valid), "s", "context canceled"},
		{"too late during the decision", ending, func(context.Context, authz.Request) (authz.Decision, error) {
			end()
			return authz.Decision{Code: authz.Valid, Key: key}, nil
		}, "s", "context canceled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var seen Observation
			c := checker(t, Config{Authorizer: tt.decides, ForwardKey: true, Observe: func(_ context.Context, o *Observation) { seen = *o }})
			var o Outcome
			for _, a := range send("x-api-key", tt.secret).forms {
				c.Check(tt.ctx, a, &o)
				break
			}
			if codeOf(t, &o) != "UNAVAILABLE" || o.Status() != 503 {
				t.Errorf("got %+v", o)
			}
			if seen.Err == nil || !strings.Contains(seen.Err.Error(), tt.err) || seen.Decision.Code != authz.Unavailable || seen.Panicked {
				t.Errorf("observed %+v", seen)
			}
			if body := string(o.AppendBody(nil)); strings.Contains(body, "key_a") {
				t.Errorf("the body names the key: %s", body)
			}
		})
	}
}

// without removes the key from the decision.
func (d decides) without() decides {
	return func(ctx context.Context, r authz.Request) (authz.Decision, error) {
		decision, err := d(ctx, r)
		decision.Key = nil
		return decision, err
	}
}

func TestContextIsPassedOn(t *testing.T) {
	type mark struct{}
	c := checker(t, Config{Authorizer: decides(func(ctx context.Context, _ authz.Request) (authz.Decision, error) {
		if ctx.Value(mark{}) == nil {
			t.Error("Authorize was given another context")
		}
		return authz.Decision{}, nil
	})})
	c.Check(context.WithValue(t.Context(), mark{}, true), new(Attributes), new(Outcome))
}

func TestPanics(t *testing.T) {
	const secret = "sk_live_topsecret"
	var nobody map[string]int
	for name, boom := range map[string]func(authz.Request){
		"a value":      func(r authz.Request) { panic("bad secret " + string(r.Secret)) },
		"an error":     func(r authz.Request) { panic(errors.New(string(r.Secret))) },
		"a nil map":    func(authz.Request) { nobody["x"]++ },
		"out of range": func(authz.Request) { _ = secret[len(secret)+len(nobody)] },
	} {
		t.Run(name, func(t *testing.T) {
			var seen []Observation
			c := checker(t, Config{
				Authorizer: decides(func(_ context.Context, r authz.Request) (authz.Decision, error) {
					boom(r)
					return authz.Decision{Code: authz.Valid}, nil
				}),
				Observe: func(_ context.Context, o *Observation) { seen = append(seen, *o) },
			})
			o := check(t, c, send("x-api-key", secret, "x-request-id", "r1"))
			if codeOf(t, o) != "UNAVAILABLE" || o.IsError() || !strings.Contains(string(o.AppendBody(nil)), `"r1"`) {
				t.Errorf("got %+v", o)
			}
			for _, o := range seen {
				if !o.Panicked || o.Err == nil || o.Decision != (authz.Decision{}) {
					t.Errorf("observed %+v", o)
				}
				if strings.Contains(o.Err.Error(), secret) || !strings.Contains(o.Err.Error(), "TestPanics") {
					t.Errorf("the error holds the secret, or does not say where: %v", o.Err)
				}
			}
			if len(seen) != 2 {
				t.Errorf("observed %d checks, want 2", len(seen))
			}
		})
	}
}

func TestPanicWhileObserving(t *testing.T) {
	for _, report := range []func(error){nil, func(error) { panic("again") }} {
		var reported []string
		c := checker(t, Config{
			Authorizer: always(authz.Valid),
			Observe:    func(context.Context, *Observation) { panic("full disk of " + "secret") },
			ObservePanicked: func(err error) {
				reported = append(reported, err.Error())
				if report != nil {
					report(err)
				}
			},
		})
		if o := check(t, c, send("x-api-key", "secret")); codeOf(t, o) != "UNAVAILABLE" || o.IsError() {
			t.Errorf("got %+v", o)
		}
		if len(reported) != 2 || !strings.Contains(reported[0], "TestPanicWhileObserving") || strings.Contains(reported[0], "secret") {
			t.Errorf("reported %q, want one for each check, with the place and without the value", reported)
		}
	}
	c := checker(t, Config{Authorizer: always(authz.Valid), Observe: func(context.Context, *Observation) { panic("full disk") }})
	if o := check(t, c, send("x-api-key", "secret")); codeOf(t, o) != "UNAVAILABLE" || o.IsError() {
		t.Errorf("without a report: %+v", o)
	}
}

// A lookup that panicked in another goroutine results in a denial; one that failed, in an error.
func TestPanicInTheStore(t *testing.T) {
	for _, cause := range []error{keystore.ErrPanicked, keystore.ErrUnreachable} {
		c := checker(t, Config{Authorizer: decides(func(context.Context, authz.Request) (authz.Decision, error) {
			return authz.Decision{}, fmt.Errorf("lookup: %w", cause)
		})})
		o := check(t, c, send("x-api-key", "secret"))
		if denied := cause == keystore.ErrPanicked; codeOf(t, o) != "UNAVAILABLE" || o.IsError() == denied { //nolint:errorlint // which of the two
			t.Errorf("%v: %+v", cause, o)
		}
	}
}

// TestRefuse: a request that could not be read is denied, whatever the proxy does on errors.
func TestRefuse(t *testing.T) {
	unread := errors.New("not a message")
	for name, observe := range map[string]func(*Observation){
		"observed":               func(*Observation) {},
		"a panic while observed": func(*Observation) { panic("full disk") },
	} {
		var seen Observation
		config := Config{Authorizer: always(authz.Valid), Statuses: map[authz.Code]int{authz.Unavailable: 500}, Observe: func(_ context.Context, o *Observation) {
			seen = *o
			observe(o)
		}}
		var o Outcome
		checker(t, config).Refuse(t.Context(), unread, &o)
		if o.Allowed() || o.IsError() || o.Code != authz.Unavailable || o.Status() < 500 {
			t.Errorf("%s: got %+v", name, o)
		}
		if !errors.Is(seen.Err, unread) || seen.LetThrough {
			t.Errorf("%s: observed %+v", name, seen)
		}
		config.DryRun = true
		if checker(t, config).Refuse(t.Context(), unread, &o); o.Allowed() != (name == "observed") || o.IsError() {
			t.Errorf("%s, dry run: got %+v", name, o)
		}
		if o.Reset(); !o.IsError() {
			t.Errorf("%s: Reset keeps that it is a denial", name)
		}
	}
}
