package e2e_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/polltest"
)

// own returns the machine's own address, which Envoy appends to x-forwarded-for for a loopback peer.
func own(t *testing.T) string {
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys})
	envoy := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, Edge: true}.start(t)
	saw := send(t, envoy.Addr("front"), call{header: headers("X-Api-Key", string(open))}).upstreamSaw(t)
	forwarded := saw.Headers["x-forwarded-for"]
	if len(forwarded) != 1 {
		t.Fatalf("an Envoy at the edge sent x-forwarded-for: %q", forwarded)
	}
	addr, err := netip.ParseAddr(forwarded[0])
	if err != nil {
		t.Fatal(err)
	}
	return addr.String()
}

// Every row is sent through a real Envoy that appends to x-forwarded-for, from a peer on
// 127.0.0.1 or .2.
func TestClientAddressBehindProxies(t *testing.T) {
	t.Parallel()
	self := own(t)
	whitelisted := "keys:\n" + record("key_client", "acme_client", "ip_whitelist: [192.0.2.7]") + record("key_open", open)
	start := func(t *testing.T, config string) (front string) {
		upstream := harness.StartUpstream(t)
		server := harness.StartExtauthz(t, harness.Settings{Keys: whitelisted, Config: config})
		return gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, Edge: true}.start(t).Addr("front")
	}
	type row struct {
		name      string
		forwarded []string // lines of x-forwarded-for
		from      string
		allowed   bool
	}
	run := func(t *testing.T, front string, rows []row) {
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				h := headers("X-Api-Key", "acme_client")
				for _, line := range row.forwarded {
					h.Add("X-Forwarded-For", line)
				}
				r := send(t, front, call{header: h, from: row.from})
				if !row.allowed {
					r.wantRefusal(t, 403, "FORBIDDEN", "key_client")
					return
				}
				if got := r.upstreamSaw(t).Headers["x-extauthz-client-address"]; len(got) != 1 || got[0] != "192.0.2.7" {
					t.Errorf("the client address is %q", got)
				}
			})
		}
	}

	t.Run("one proxy", func(t *testing.T) {
		run(t, start(t, "client_address: {from: x_forwarded_for, trusted_proxies: [127.0.0.1, "+self+"]}"), []row{
			{"the proxy names the client", []string{"192.0.2.7"}, "", true},
			{"the client adds entries of its own", []string{"10.0.0.1, nonsense, 192.0.2.7"}, "", true},
			{"the client names a listed address", []string{"192.0.2.7, 203.0.113.9"}, "", false},
			{"two lines are one list", []string{"192.0.2.7", "203.0.113.9"}, "", false},
			{"a peer that is no proxy", []string{"192.0.2.7"}, "127.0.0.2", false},
			{"a port", []string{"192.0.2.7:4711"}, "", false},
			{"an empty entry", []string{"192.0.2.7, "}, "", false},
			{"no header", nil, "", false},
			{"IPv4-mapped", []string{"::ffff:192.0.2.7"}, "", true},
		})
	})
	t.Run("two proxies", func(t *testing.T) {
		run(t, start(t, "client_address: {from: x_forwarded_for, trusted_proxies: [127.0.0.1, "+self+", 198.51.100.0/24]}"), []row{
			{"both name the next", []string{"192.0.2.7, 198.51.100.3"}, "", true},
			{"in two lines", []string{"192.0.2.7", "198.51.100.3"}, "", true},
			{"a stranger between them", []string{"192.0.2.7, 203.0.113.9, 198.51.100.3"}, "", false},
			{"only proxies", []string{"198.51.100.3"}, "", false},
			{"a second proxy that is none", []string{"192.0.2.7, 198.51.101.3"}, "", false},
		})
	})
	t.Run("one hop", func(t *testing.T) {
		run(t, start(t, "client_address: {from: x_forwarded_for, trusted_hops: 1}"), []row{
			{"the proxy names the client", []string{"192.0.2.7"}, "", true},
			{"the client names a listed address", []string{"192.0.2.7, 203.0.113.9"}, "", false},
			{"no entry of a proxy", nil, "", false},
		})
	})
	t.Run("two hops", func(t *testing.T) {
		run(t, start(t, "client_address: {from: x_forwarded_for, trusted_hops: 2}"), []row{
			{"both name the next", []string{"192.0.2.7, 198.51.100.3"}, "", true},
			{"the client adds entries of its own", []string{"203.0.113.9, 192.0.2.7, 198.51.100.3"}, "", true},
			{"too few entries", []string{"192.0.2.7"}, "", false},
			{"the client names a listed address", []string{"192.0.2.7, 203.0.113.9, 198.51.100.3"}, "", false},
		})
	})
	t.Run("a header of the proxy's own", func(t *testing.T) {
		front := start(t, "client_address: {from: header, header: x-client-ip}")
		for _, row := range []struct {
			name    string
			values  []string
			allowed bool
		}{
			{"set", []string{"192.0.2.7"}, true},
			{"missing", nil, false},
			{"repeated", []string{"192.0.2.7", "192.0.2.7"}, false},
			{"a list", []string{"192.0.2.7, 192.0.2.7"}, false},
			{"short", []string{"192.0.519"}, false},
		} {
			t.Run(row.name, func(t *testing.T) {
				h := headers("X-Api-Key", "acme_client", "X-Forwarded-For", "192.0.2.7")
				h["X-Client-Ip"] = row.values
				if r := send(t, front, call{header: h}); row.allowed {
					r.upstreamSaw(t)
				} else {
					r.wantRefusal(t, 403, "FORBIDDEN", "key_client")
				}
			})
		}
	})
	t.Run("a listener on a unix socket", func(t *testing.T) { // where Envoy appends nothing
		for config, want := range map[string]map[string]bool{
			"client_address: {from: x_forwarded_for, trusted_hops: 1}": {
				"192.0.2.7, 203.0.113.9": false, "203.0.113.9, 192.0.2.7": false, "192.0.2.7": false, "": false,
			},
			"client_address: {from: x_forwarded_for, trusted_hops: 1, xff_appended: false}": {
				"192.0.2.7, 203.0.113.9": false, "203.0.113.9, 192.0.2.7": true, "192.0.2.7": true, "": false,
			},
			"client_address: {from: peer}": {"192.0.2.7": false},
		} {
			upstream := harness.StartUpstream(t)
			server := harness.StartExtauthz(t, harness.Settings{Keys: whitelisted, Config: config})
			path := strings.TrimPrefix(socket(t), "unix:")
			envoy := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, Edge: true, Socket: path}.start(t)
			for forwarded, allowed := range want {
				r := send(t, envoy.Addr("front"), call{header: headers("X-Api-Key", "acme_client", "X-Forwarded-For", forwarded)})
				if allowed != (r.status == 200) {
					t.Errorf("%s, x-forwarded-for %q: got %d %s", config, forwarded, r.status, r.body)
				}
			}
		}
	})
	t.Run("the hop-by-hop trick", func(t *testing.T) {
		front := start(t, "client_address: {from: x_forwarded_for, trusted_hops: 1}")
		r := send(t, front, call{header: headers("X-Api-Key", "acme_client", "X-Forwarded-For", "192.0.2.7", "Connection", "x-forwarded-for")})
		if r.status == 200 {
			t.Errorf("Connection: x-forwarded-for got through: %s", r.body)
		}
	})
}

// With trusted_hops, the last entry must be the one that Envoy appended; otherwise there is no address. In
// each row the peer is a load balancer at 198.51.100.1, whose caller, 198.51.100.9, writes its own entry.
func TestWhatIsSetAsideWasAppended(t *testing.T) {
	t.Parallel()
	const (
		honest  = "192.0.2.7"
		spoofed = "192.0.2.7, 198.51.100.9"
		xff     = `original_ip_detection_extensions: [{name: xff, typed_config: {"@type": type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig, xff_num_trusted_hops: 1%s}}]`
	)
	whitelisted := "keys:\n" + record("key_client", "acme_client", "ip_whitelist: [192.0.2.7]")
	for _, tt := range []struct {
		name     string
		envoy    gateway
		appended bool // Envoy appends its peer
	}{
		{"use_remote_address", gateway{Edge: true}, true},
		{"use_remote_address and hops", gateway{Edge: true, Connections: "xff_num_trusted_hops: 1"}, true},
		{"skip_xff_append", gateway{Edge: true, Connections: "skip_xff_append: true"}, false},
		{"use_remote_address: false", gateway{}, false},
		{"XFF extension", gateway{Connections: fmt.Sprintf(xff, "")}, false},
		{"XFF extension that skips", gateway{Connections: fmt.Sprintf(xff, ", skip_xff_append: true")}, false},
		{"XFF extension that appends", gateway{Connections: fmt.Sprintf(xff, ", skip_xff_append: false")}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, setting := range []string{"", ", xff_appended: false"} {
				upstream := harness.StartUpstream(t)
				server := harness.StartExtauthz(t, harness.Settings{Keys: whitelisted, Config: "client_address: {from: x_forwarded_for, trusted_hops: 1" + setting + "}"})
				tt.envoy.Servers, tt.envoy.Upstream, tt.envoy.ProxyProtocol = []string{server.Addr}, upstream.Addr, true
				front := tt.envoy.start(t).Addr("front")
				for forwarded, allowed := range map[string]bool{honest: tt.appended == (setting == ""), spoofed: false, "": false} {
					c := call{header: headers("X-Api-Key", "acme_client"), proxy: "198.51.100.1"}
					if forwarded != "" {
						c.header.Set("X-Forwarded-For", forwarded)
					}
					if r := send(t, front, c); allowed != (r.status == 200) {
						t.Errorf("trusted_hops: 1%s, x-forwarded-for %q: got %d %s", setting, forwarded, r.status, r.body)
					}
				}
				polltest.NoError(t, func() error {
					if setting == "" && tt.appended == strings.Contains(server.Log(), "Envoy did not append it") {
						return errors.New("the log does not say whether Envoy appended the entry")
					}
					return nil
				})
			}
		})
	}
}

// A header is trusted only from a trusted proxy, and ports are accepted only if ports is set.
func TestAddressHeaderFromTrustedProxies(t *testing.T) {
	t.Parallel()
	whitelisted := "keys:\n" + record("key_client", "acme_client", "ip_whitelist: [192.0.2.7]")
	for config, rows := range map[string][]struct {
		peer, value string
		allowed     bool
		logged      string
	}{
		"{from: header, header: x-client-ip, trusted_proxies: [198.51.100.0/24]}": {
			{"198.51.100.1", "192.0.2.7", true, ""},
			{"203.0.113.9", "192.0.2.7", false, "the peer is not a trusted proxy"},
			{"192.0.2.7", "192.0.2.7", false, "the peer is not a trusted proxy"},
			{"198.51.100.1", "192.0.2.7:4711", false, "192.0.2.7:4711"},
		},
		"{from: header, header: x-client-ip, trusted_proxies: [198.51.100.0/24], ports: true}": {
			{"198.51.100.1", "192.0.2.7:4711", true, ""},
			{"203.0.113.9", "192.0.2.7:4711", false, "the peer is not a trusted proxy"},
		},
		"{from: x_forwarded_for, trusted_proxies: [198.51.100.0/24], ports: true}": {
			{"198.51.100.1", "192.0.2.7:4711", true, ""},
			{"198.51.100.1", "192.0.2.7:4711, 198.51.100.2:80", true, ""},
			{"198.51.100.1", "198.51.100.7:4711", false, "is in 198.51.100.0/24"},
		},
	} {
		upstream := harness.StartUpstream(t)
		server := harness.StartExtauthz(t, harness.Settings{Keys: whitelisted, Config: "client_address: " + config})
		front := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, ProxyProtocol: true}.start(t).Addr("front")
		for _, row := range rows {
			r := send(t, front, call{header: headers("X-Api-Key", "acme_client", "X-Client-Ip", row.value, "X-Forwarded-For", row.value), proxy: row.peer})
			if row.allowed != (r.status == 200) {
				t.Errorf("%s, %q from %s: got %d %s", config, row.value, row.peer, r.status, r.body)
			}
			polltest.NoError(t, func() error {
				if !strings.Contains(server.Log(), row.logged) {
					return fmt.Errorf("%s, %q from %s: the log does not say %q", config, row.value, row.peer, row.logged)
				}
				return nil
			})
		}
	}
}

// A key without a whitelist works without a client address.
func TestUnrestrictedKeyNeedsNoAddress(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: "client_address: {from: header, header: x-client-ip}"})
	envoy := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr}.start(t)
	saw := send(t, envoy.Addr("front"), call{header: headers("X-Api-Key", string(open), "X-Extauthz-Client-Address", "192.0.2.7")}).upstreamSaw(t)
	if got, ok := saw.Headers["x-extauthz-client-address"]; ok {
		t.Errorf("the upstream saw a client address, %q, and there is none", got)
	}
	send(t, envoy.Addr("front"), call{header: headers("X-Api-Key", string(listed))}).wantRefusal(t, 403, "FORBIDDEN", "key_listed")
}
