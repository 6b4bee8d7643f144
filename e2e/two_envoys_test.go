package e2e_test

import (
	"fmt"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/redisclient/redistest"
)

// If a request passes two Envoys, each with its own extauthz over one Redis, the second one needs the key,
// the caller's address, and a route that charges nothing.
func TestTwoEnvoysInARow(t *testing.T) {
	t.Parallel()
	const hops = "client_address: {from: x_forwarded_for, trusted_hops: 1}\n"
	const caller = "127.0.0.9"
	keys := "keys:\n" + record("key_metered", metered, twoAnHour, "ip_whitelist: ["+caller+", "+own(t)+"]") // which Envoy appends for caller
	for _, test := range []struct {
		name, first, second, extensions string
		want                            []int // the statuses of consecutive requests
		code                            string
	}{
		{"the key removed", "", hops, "{ratelimits: requests=0}", []int{401}, "MISSING_KEY"},
		{"the first one taken for the caller", "forward_key: true\n", "", "{ratelimits: requests=0}", []int{403}, "FORBIDDEN"},
		{"counted twice", "forward_key: true\n", hops, "", []int{200, 429}, "RATE_LIMITED"},
		{"counted once", "forward_key: true\n", hops, "{ratelimits: requests=0}", []int{200, 200, 429}, "RATE_LIMITED"},
	} {
		t.Run(test.name, func(t *testing.T) {
			limits := fmt.Sprintf("ratelimit: {store: redis, url: %q, on_error: refuse, timeout: 10s}\n", redistest.Start(t).URL())
			upstream := harness.StartUpstream(t)
			second := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: limits + test.second})
			sidecar := gateway{Servers: []string{second.Addr}, Upstream: upstream.Addr, Edge: true, Extensions: test.extensions}.start(t)
			first := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: limits + test.first})
			front := gateway{Servers: []string{first.Addr}, Upstream: sidecar.Addr("front"), Edge: true}.start(t).Addr("front")
			for i, want := range test.want {
				r := send(t, front, call{header: headers("X-Api-Key", string(metered)), from: caller})
				if r.status != want {
					t.Fatalf("request %d: got %d %s, want %d", i+1, r.status, r.body, want)
				}
				if want == 200 {
					if saw := r.upstreamSaw(t); saw.Headers["x-api-key"] != nil {
						t.Error("the upstream was sent the key")
					}
					continue
				}
				keyID := "key_metered"
				if test.code == "MISSING_KEY" {
					keyID = ""
				}
				r.wantRefusal(t, want, test.code, keyID)
			}
		})
	}
}
