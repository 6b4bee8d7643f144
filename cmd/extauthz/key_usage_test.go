package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"extauthz/polltest"
	"extauthz/usage"
)

// TestUsage sends checks from known addresses to two servers over each kind of store, and compares the output
// of the commands with them.
func TestUsage(t *testing.T) {
	t.Parallel()
	for kind, store := range stores(t) {
		t.Run(kind, func(t *testing.T) { testUsage(t, store) })
	}
}

func testUsage(t *testing.T, store string) {
	dir := t.TempDir()
	file := filepath.Join(dir, "extauthz.yaml")
	configuration := "listen: 127.0.0.1:0\nadmin: {listen: 127.0.0.1:0}\nshutdown: {drain: 0s}\nstore: " + store +
		"\ncache: {lookup_timeout: 2s}\nusage: {record: true, flush: 100ms, path: usage.db}\n"
	write(t, file, configuration)
	secret := strings.TrimSpace(command(t, "", "key", "new", "--config", file, "--id", "key_acme", "--allow", "10.0.0.0/24", "--allow", "2001:db8::/32"))
	command(t, "", "key", "new", "--config", file, "--id", "key_unused")

	replicas := []*process{serving(t, start(t, "serve", "--config", file)), serving(t, start(t, "serve", "--config", file))}
	rng := rand.New(rand.NewPCG(7, 7))
	allowed, refused := map[string]int{}, map[string]int{}
	start := time.Now()
	for range 300 {
		peer, network, listed := address(rng)
		want, count := "FORBIDDEN", refused
		if listed {
			want, count = "VALID", allowed
		}
		if got := decision(t, replicas[rng.IntN(2)], secret, peer); got != want {
			t.Fatalf("%s from %s: %s, want %s", "key_acme", peer, got, want)
		}
		count[network]++
	}
	decision(t, replicas[0], "unknown", "10.0.0.1") // an unknown key is not recorded

	var report usageReport
	polltest.Until(t, "both replicas' counts are written", func() bool {
		report = usageReport{}
		unmarshal(t, command(t, "", "key", "usage", "key_acme", "--config", file, "--json"), &report)
		total := 0
		for _, a := range report.Addresses {
			total += int(a.Allowed + a.Refused)
		}
		return total == 300
	})
	gotAllowed, gotRefused := map[string]int{}, map[string]int{}
	for _, a := range report.Addresses {
		if a.Allowed > 0 {
			gotAllowed[a.Address] = int(a.Allowed)
		}
		if a.Refused > 0 {
			gotRefused[a.Address] = int(a.Refused)
		}
		if a.Listed != (a.Allowed > 0) || a.First.Before(start.Add(-time.Second)) || a.Last.Before(a.First) || a.Refused > 0 && a.Codes["FORBIDDEN"] != a.Refused {
			t.Errorf("%+v", a)
		}
	}
	if !reflect.DeepEqual(gotAllowed, allowed) || !reflect.DeepEqual(gotRefused, refused) || !report.Complete || report.LastUsed == nil {
		t.Errorf("got %v and %v refused, want %v and %v", gotAllowed, gotRefused, allowed, refused)
	}
	unmarshal(t, command(t, "", "key", "usage", "key_unused", "--config", file, "--json"), &report)
	if report.LastUsed != nil || len(report.Addresses) > 0 {
		t.Errorf("a key that was never used: %+v", report)
	}
	testLastUsed(t, file)
	testPropose(t, file, allowed)
	for _, p := range replicas {
		if n := p.metric(t, "extauthz_usage_write_failures_total"); n != "0" {
			t.Errorf("%s failures to write usage:\n%s", n, p.Log())
		}
	}
}

// address returns an address, how it is counted, and whether the test's key lists it.
func address(rng *rand.Rand) (peer, network string, listed bool) {
	n := rng.IntN(8)
	switch rng.IntN(4) {
	case 0:
		peer = fmt.Sprintf("10.0.1.%d", n)
	case 1:
		peer, listed = fmt.Sprintf("2001:db8:0:%x::%x", n, rng.IntN(1000)), true
	default:
		peer, listed = fmt.Sprintf("10.0.0.%d", n), true
	}
	return peer, usage.FormatNetwork(usage.Network(netip.MustParseAddr(peer))), listed
}

// testLastUsed checks the last use in the output of list and show.
func testLastUsed(t *testing.T, file string) {
	t.Helper()
	if list := command(t, "", "key", "list", "--config", file, "--unused-since", "1h"); strings.Contains(list, "key_acme") || !strings.Contains(list, "key_unused") || !strings.Contains(list, "never") {
		t.Errorf("unused for an hour:\n%s", list)
	}
	if list := command(t, "", "key", "list", "--config", file, "--json"); strings.Count(list, `"last_used":"20`) != 1 {
		t.Errorf("list in JSON:\n%s", list)
	}
	if show := command(t, "", "key", "show", "key_acme", "--config", file); !strings.Contains(show, "last used ") || strings.Contains(show, "never\n") && !strings.Contains(show, "expires") {
		t.Errorf("show:\n%s", show)
	}
	command(t, "", "key", "expire", "key_unused", "20d", "--config", file)
	if list := command(t, "", "key", "list", "--config", file, "--expires-within", "30d"); strings.Contains(list, "key_acme") || !strings.Contains(list, "key_unused") {
		t.Errorf("expire within 30 days:\n%s", list)
	}
	if list := command(t, "", "key", "list", "--config", file, "--expires-within", "10d"); strings.Contains(list, "key_unused") {
		t.Errorf("expire within 10 days:\n%s", list)
	}
}

func testPropose(t *testing.T, file string, allowed map[string]int) {
	t.Helper()
	requests := 0
	for _, n := range allowed {
		requests += n
	}
	var p proposalReport
	unmarshal(t, command(t, "", "key", "propose", "key_acme", "--config", file, "--json"), &p)
	if p.Covers.Addresses != len(allowed) || int(p.Covers.Requests) != requests || p.Adds != 0 || len(p.LeftOut) > 0 || !p.Complete {
		t.Errorf("proposal %+v, want %d addresses and %d requests", p, len(allowed), requests)
	}
	var e evaluationReport
	unmarshal(t, command(t, "", "key", "propose", "key_acme", "--config", file, "--json", "--evaluate", strings.Join(p.Entries, ",")), &e)
	if e.RefusedRequests != 0 || int(e.Requests) != requests {
		t.Errorf("the proposal would have refused %+v", e)
	}
	unmarshal(t, command(t, "", "key", "propose", "key_acme", "--config", file, "--json", "--evaluate", "10.0.0.0/30"), &e)
	refused := requests
	for _, a := range []string{"10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"} {
		refused -= allowed[a]
	}
	if int(e.RefusedRequests) != refused || int(e.Requests) != requests {
		t.Errorf("10.0.0.0/30 would have refused %d of %d, want %d of %d", e.RefusedRequests, e.Requests, refused, requests)
	}
	if text := command(t, "", "key", "propose", "key_acme", "--config", file, "--apply", "--widen", "24,56"); !strings.Contains(text, "applied: key_acme") {
		t.Errorf("--apply printed %s", text)
	}
	var k struct {
		IPWhitelist []string `json:"ip_whitelist"`
	}
	unmarshal(t, command(t, "", "key", "show", "key_acme", "--config", file, "--json"), &k)
	if want := []string{"10.0.0.0/29", "2001:db8::/61"}; !reflect.DeepEqual(k.IPWhitelist, want) {
		t.Errorf("the key's list is %v, want %v", k.IPWhitelist, want)
	}
}

func unmarshal(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}
