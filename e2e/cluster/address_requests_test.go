package cluster_test

import "testing"

// IPv6 addresses of the table.
const (
	theClient6  = "2001:db8::7"
	theProxy6   = "2001:db8:5::1"
	theProxies6 = "2001:db8:5::/48"
)

// requests are unusual requests, with the address that each of the three ways of trusting proxies finds.
var requests = []struct {
	name      string
	peer      string
	forwarded []string // the lines of x-forwarded-for
	clientIP  []string // the lines of x-client-ip
	peers     string   // by from: peer
	proxies   string   // by trusted_proxies
	hops      string   // by trusted_hops: 1, with xff_appended as Envoy does it; "": whoever has this peer can invent one
	header    string   // by from: header
}{
	{"an IPv6 client", theProxy, []string{theClient6}, []string{theClient6}, theProxy, theClient6, theClient6, theClient6},
	{"an IPv6 client past the proxy", theClient6, []string{invented}, []string{invented}, theClient6, theClient6, "", none},
	{"an IPv6 proxy", theProxy6, []string{invented + "," + theClient}, []string{theClient}, theProxy6, theClient, theClient, theClient},
	// Envoy's trustedCIDRs do not contain the mapped form: it appends the peer although the append is disabled.
	{"an IPv4-mapped proxy", "::ffff:10.0.0.5", []string{invented + ", " + theClient}, []string{theClient}, theProxy, theClient, "", theClient},
	{"an IPv4-mapped client", theProxy, []string{"::ffff:203.0.113.7"}, []string{"::ffff:203.0.113.7"}, theProxy, theClient, theClient, theClient},
	{"two lines", theProxy, []string{invented, theClient}, []string{invented, theClient}, theProxy, theClient, theClient, none},
	{"two proxies", theProxy, []string{invented + ", " + theClient + ", 10.0.0.9"}, nil, theProxy, theClient, "10.0.0.9", none},
	{"no header", theProxy, nil, nil, theProxy, none, none, none},
	{"an empty header", theProxy, []string{""}, []string{""}, theProxy, none, none, none},
	{"proxies alone", theProxy, []string{"10.0.0.9"}, []string{theProxy}, theProxy, none, "10.0.0.9", theProxy},
	{"many invented entries", theProxy, []string{invented + ",10.0.0.1," + invented + ",,x," + theClient}, []string{theClient}, theProxy, theClient, theClient, theClient},
	{"garbage from the caller", theProxy, []string{"garbage, " + theClient}, []string{"garbage, " + theClient}, theProxy, theClient, theClient, none},
	{"garbage from the proxy", theProxy, []string{invented + ", garbage"}, []string{"garbage"}, theProxy, none, none, none},
	{"unknown from the proxy", theProxy, []string{invented + ", unknown"}, []string{"unknown"}, theProxy, none, none, none},
	{"nothing from the proxy", theProxy, []string{invented + ", "}, []string{" "}, theProxy, none, none, none},
	{"leading zeros", theProxy, []string{invented + ", 203.0.113.007"}, []string{"203.0.113.007"}, theProxy, none, none, none},
	{"a zone", theProxy, []string{invented + ", fe80::1%eth0"}, []string{"fe80::1%eth0"}, theProxy, none, none, none},
	{"a port", theProxy, []string{invented + ", 203.0.113.7:443"}, []string{"203.0.113.7:443"}, theProxy, none, none, none},
}

// testRequests sends each of the unusual requests through a listener, by the route of each setting.
func testRequests(t *testing.T, front, detection string, appends bool) {
	t.Helper()
	for _, r := range requests {
		headers := []string{}
		for _, line := range r.forwarded {
			headers = append(headers, "x-forwarded-for", line)
		}
		for _, line := range r.clientIP {
			headers = append(headers, "x-client-ip", line)
		}
		hops := "hops"
		if !appends {
			hops = "hops-not-appended"
		}
		want := map[string]string{"peer": r.peers, "proxies": r.proxies, "header": r.header}
		if r.hops != "" {
			want[hops] = r.hops
		}
		for setting, want := range want {
			if got := addressFound(t, front, "/"+setting, r.peer, headers...); got != want {
				t.Errorf("clientIPDetection %s, client_address %s, %s: %q, want %q", detection, setting, r.name, got, want)
			}
		}
		if !appends { // then trusted_hops with xff_appended has no address
			if got := addressFound(t, front, "/hops", theProxy, headers...); got != none && got != r.peers {
				t.Errorf("clientIPDetection %s, client_address hops, %s: %q, want none", detection, r.name, got)
			}
		}
	}
}
