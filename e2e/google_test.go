package e2e_test

import (
	"testing"

	"extauthz/e2e/harness"
)

// Google's external Application Load Balancer connects from 130.211.0.0/22 and 35.191.0.0/16, and
// appends two addresses to x-forwarded-for: the client's, and its own.
func TestBehindGoogleLoadBalancer(t *testing.T) {
	t.Parallel()
	const client, made, balancer, front1, front2 = "192.0.2.7", "198.51.100.9", "203.0.113.80", "35.191.10.3", "130.211.1.9"
	keys := "keys:\n" + record("key_client", "acme_client", "ip_whitelist: ["+client+"]")
	for _, test := range []struct {
		name, address   string
		peer, forwarded string
		allowed         bool
	}{
		{"proxies", "trusted_proxies: [130.211.0.0/22, 35.191.0.0/16, " + balancer + "]", front1, client + ", " + balancer, true},
		{"the other range", "trusted_proxies: [130.211.0.0/22, 35.191.0.0/16, " + balancer + "]", front2, client + ", " + balancer, true},
		{"proxies, made-up entry", "trusted_proxies: [130.211.0.0/22, 35.191.0.0/16, " + balancer + "]", front1, client + ", " + made + ", " + balancer, false},
		{"proxies, past the balancer", "trusted_proxies: [130.211.0.0/22, 35.191.0.0/16, " + balancer + "]", made, client + ", " + balancer, false},
		{"proxies without the balancer's own address", "trusted_proxies: [130.211.0.0/22, 35.191.0.0/16]", front1, client + ", " + balancer, false},
		{"two hops", "trusted_hops: 2", front1, client + ", " + balancer, true},
		{"two hops, made-up entry", "trusted_hops: 2", front1, client + ", " + made + ", " + balancer, false},
		{"one hop finds the balancer", "trusted_hops: 1", front1, client + ", " + balancer, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: "client_address: {from: x_forwarded_for, " + test.address + "}"})
			envoy := gateway{Servers: []string{server.Addr}, Upstream: harness.StartUpstream(t).Addr, Edge: true, ProxyProtocol: true}.start(t)
			r := send(t, envoy.Addr("front"), call{header: headers("X-Api-Key", "acme_client", "X-Forwarded-For", test.forwarded), proxy: test.peer})
			if !test.allowed {
				r.wantRefusal(t, 403, "FORBIDDEN", "key_client")
				return
			}
			if got := r.upstreamSaw(t).Headers["x-extauthz-client-address"]; len(got) != 1 || got[0] != client {
				t.Errorf("the client address is %q", got)
			}
		})
	}
}
