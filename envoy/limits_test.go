package envoy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"extauthz/authz"
	"extauthz/keystore"
	"extauthz/ratelimit"
	"extauthz/ratelimit/memory"
)

// rightsOf decides on permissions and rate limits too, on a clock that stands.
func rightsOf(k *keystore.Key) Authorizer {
	return authz.New(keys{k.Hash: k}, func() time.Time { return now },
		authz.WithLimits(authz.Limits{Limiter: memory.New(func() time.Time { return now })}))
}

// limited is the code's decision about a key with two limits, of which one is spent.
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

// TestLimitReplies holds what a caller is told of its limits to its goldens.
func TestLimitReplies(t *testing.T) {
	for _, code := range []authz.Code{authz.Valid, authz.RateLimited} {
		for _, style := range []ratelimit.HeaderStyle{ratelimit.XRateLimit, ratelimit.IETF} {
			s := server(t, Config{Authorizer: limited(code), LimitHeaders: style})
			replies(t, s, code.String()+"_"+style.String(), send("x-api-key", "secret"))
		}
	}
}

// TestDryRunReplies: whatever is decided goes on, with the identity of a key that was found,
// and without what the caller made up.
func TestDryRunReplies(t *testing.T) {
	for _, code := range authz.Codes() {
		var seen Observation
		s := server(t, Config{Authorizer: limited(code), DryRun: true, Observe: func(_ context.Context, o *Observation) { seen = *o }})
		replies(t, s, code.String()+"_dry_run", send("x-api-key", "secret", "x-extauthz-key-id", "root", "x-extauthz-admin", "yes"))
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
			s := server(t, Config{Authorizer: a, DryRun: true, ForwardKey: forward})
			for _, ask := range []ask{send(), send("x-api-key", "secret")} {
				resp := check(t, s, ask)
				if codeOf(t, resp) != "UNAVAILABLE" || resp.GetOkResponse() == nil {
					t.Errorf("%s: %v", name, resp)
				}
				if removed := strings.Join(resp.GetOkResponse().GetHeadersToRemove(), " "); !strings.Contains(removed, "x-extauthz-key-id") {
					t.Errorf("%s: removed are %s", name, removed)
				}
			}
		}
	}
}

// replies holds both ways of writing the reply to the golden.
func replies(t *testing.T, s *Server, name string, a ask) {
	t.Helper()
	resp := check(t, s, a)
	golden(t, name, resp)
	codeOf(t, resp)
	c := new(call)
	c.read(a.mapped())
	written := new(authv3.CheckResponse)
	if err := proto.Unmarshal(s.answer(t.Context(), c), written); err != nil || !sameReply(written, resp) {
		t.Errorf("%s: written to the wire, the reply is another (%v):\ngot  %v\nwant %v", name, err, written, resp)
	}
}

// TestRateLimited goes through a limiter: what is left is told until nothing is.
func TestRateLimited(t *testing.T) {
	k := keyFor("secret")
	k.Ratelimits = []keystore.Ratelimit{{Name: "requests", Limit: 2, Duration: time.Minute}}
	s := server(t, Config{Authorizer: rightsOf(k)})
	for _, want := range []string{
		"VALID x-ratelimit-limit=2 x-ratelimit-remaining=1 x-ratelimit-reset=61",
		"VALID x-ratelimit-limit=2 x-ratelimit-remaining=0 x-ratelimit-reset=61",
		"RATE_LIMITED x-ratelimit-limit=2 x-ratelimit-remaining=0 x-ratelimit-reset=61 retry-after=61",
	} {
		resp, err := s.Check(t.Context(), send("x-api-key", "secret").mapped())
		if err != nil {
			t.Fatal(err)
		}
		got := codeOf(t, resp)
		for _, h := range append(resp.GetOkResponse().GetResponseHeadersToAdd(), resp.GetDeniedResponse().GetHeaders()...) {
			if name := h.GetHeader().GetKey(); strings.Contains(name, "r") && name != "content-type" && name != "cache-control" {
				got += " " + name + "=" + h.GetHeader().GetValue()
			}
		}
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
