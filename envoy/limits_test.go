package envoy

import (
	"context"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/ratelimit"
)

// limited is a decision with the code about a key with two limits, one of which is exhausted.
func limited(code authz.Code) decides {
	wait := time.Duration(0)
	if code == authz.RateLimited {
		wait = 1500 * time.Millisecond
	}
	limits := &ratelimit.Result{Limits: []ratelimit.Status{
		{Charge: ratelimit.Charge{Name: "requests", Limit: 100, Duration: time.Minute, Cost: 1}, Remaining: 42, Next: time.Second, Reset: 59 * time.Second},
		{Charge: ratelimit.Charge{Name: "exports", Limit: 5, Duration: time.Hour, Cost: 2}, Remaining: 1, Next: wait, Reset: 3599500 * time.Millisecond, Wait: wait},
	}}
	return func(ctx context.Context, r authz.Request) (authz.Decision, error) {
		d, err := always(code)(ctx, r)
		d.Limits = limits
		return d, err
	}
}

// TestLimitReplies compares the headers about rate limits with the goldens.
func TestLimitReplies(t *testing.T) {
	for _, code := range []authz.Code{authz.Valid, authz.RateLimited} {
		for _, style := range []ratelimit.HeaderStyle{ratelimit.XRateLimit, ratelimit.IETF} {
			s := server(t, check.Config{Authorizer: limited(code), LimitHeaders: style})
			replies(t, s, code.String()+"_"+style.String(), send("x-api-key", "secret"))
		}
	}
}

// TestDryRunReplies: every request is allowed, with the identity of the key, if one was found, and without
// forged identity headers.
func TestDryRunReplies(t *testing.T) {
	for _, code := range authz.Codes() {
		s := server(t, check.Config{Authorizer: limited(code), DryRun: true})
		replies(t, s, code.String()+"_dry_run", send("x-api-key", "secret", "x-extauthz-key-id", "root", "x-extauthz-admin", "yes"))
	}
}

// replies compares both ways of writing the reply with the golden.
func replies(t *testing.T, s *Server, name string, a ask) {
	t.Helper()
	resp := replyTo(t, s, a)
	golden(t, name, resp)
	codeOf(t, resp)
	c := new(call)
	c.read(a.mapped())
	written := new(authv3.CheckResponse)
	if err := proto.Unmarshal(s.answer(t.Context(), c), written); err != nil || !sameReply(written, resp) {
		t.Errorf("%s: written to the wire, the reply is another (%v):\ngot  %v\nwant %v", name, err, written, resp)
	}
}
