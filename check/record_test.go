package check

import (
	"context"
	"testing"

	"extauthz/authz"
)

// A request whose decision cannot be recorded is refused, and observed as such; in a dry run it is allowed,
// like every request.
func TestRecordRefuses(t *testing.T) {
	for _, code := range authz.Codes() {
		for _, recorded := range []bool{true, false} {
			for _, dryRun := range []bool{true, false} {
				var seen []Observation
				c := checker(t, Config{
					Authorizer: always(code), DryRun: dryRun,
					Record:  func(_ context.Context, o *Observation) bool { seen = append(seen, *o); return recorded },
					Observe: func(_ context.Context, o *Observation) { seen = append(seen, *o) },
				})
				var o Outcome
				for _, a := range send("x-api-key", "s", "traceparent", "00-1", "x-request-id", "r").forms {
					c.Check(t.Context(), a, &o)
					break
				}
				want := code
				if !recorded {
					want = authz.Unavailable
				}
				if o.IsError() && (!recorded || want != authz.Unavailable) {
					t.Errorf("%s, recorded %t: an error, which a proxy may let through", code, recorded)
				}
				if o.Code != want || o.Allowed() != (dryRun || want.Allowed()) {
					t.Errorf("%s, recorded %t, dry run %t: %s, goes on: %t", code, recorded, dryRun, o.Code, o.Allowed())
				}
				if len(seen) != 2 || seen[0].Decision.Code != code || seen[1].Decision.Code != want || seen[1].LetThrough != (dryRun && !want.Allowed()) {
					t.Errorf("%s, recorded %t, dry run %t: observed %+v", code, recorded, dryRun, seen)
				}
				if seen[0].TraceParent != "00-1" || seen[0].Peer != "192.0.2.1" || seen[1].RequestID != "r" || (!recorded && seen[1].Err != errNotRecorded) { //nolint:errorlint // as it is
					t.Errorf("observed %+v", seen)
				}
				if !o.Allowed() && len(o.SetHeaders)+len(o.RemoveHeaders) > 0 {
					t.Errorf("a refusal changes the request: %+v", o)
				}
			}
		}
	}
}

// A request whose record panics is refused.
func TestRecordPanics(t *testing.T) {
	var panics int
	c := checker(t, Config{
		Authorizer: always(authz.Valid), ObservePanicked: func(error) { panics++ },
		Record: func(context.Context, *Observation) bool { panic("disk") },
	})
	var o Outcome
	c.Check(t.Context(), &Attributes{Headers: []Field{{"x-api-key", "s"}}}, &o)
	if o.Allowed() || o.IsError() || o.Code != authz.Unavailable || panics != 1 {
		t.Errorf("%+v, %d panics", o, panics)
	}
	c.Refuse(t.Context(), errNoPeer, &o)
	if o.Allowed() || o.IsError() || panics != 2 {
		t.Errorf("%+v, %d panics", o, panics)
	}
}
