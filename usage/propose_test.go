package usage_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/usage"
)

var day1 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// seen returns usage of one allowed request from each address on day1.
func seen(addresses ...string) *usage.KeyUsage {
	u := &usage.KeyUsage{}
	for _, a := range addresses {
		u.Rows = append(u.Rows, allowed(a, 1, day1))
	}
	usage.SortRows(u.Rows)
	return u
}

func allowed(address string, requests uint64, at time.Time) usage.Row {
	return usage.Row{
		Network: usage.Network(netip.MustParseAddr(address)), Day: usage.DayOf(at),
		Counts: usage.Counts{Allowed: requests}, First: at, Last: at,
	}
}

func entries(p usage.Proposal) []string {
	var s []string
	for _, e := range p.Entries {
		s = append(s, fmt.Sprintf("%s+%d", keystore.FormatWhitelistEntry(e.Prefix), e.Adds))
	}
	return s
}

func TestProposeEntries(t *testing.T) {
	for _, c := range []struct {
		name           string
		seen           []string
		widen4, widen6 int
		want           []string // entry+addresses that it adds
	}{
		{name: "nothing"},
		{name: "one address", seen: []string{"192.0.2.7"}, want: []string{"192.0.2.7+0"}},
		{name: "neighbours merge", seen: []string{"192.0.2.6", "192.0.2.7"}, want: []string{"192.0.2.6/31+0"}},
		{name: "neighbours of two ranges do not", seen: []string{"192.0.2.7", "192.0.2.8"}, want: []string{"192.0.2.7+0", "192.0.2.8+0"}},
		{name: "IPv6 by /64", seen: []string{"2001:db8::1", "2001:db8::2", "2001:db8:0:1::9"}, want: []string{"2001:db8::/63+0"}},
		{name: "both families", seen: []string{"2001:db8::1", "192.0.2.7"}, want: []string{"192.0.2.7+0", "2001:db8::/64+0"}},
		{name: "mapped counts as IPv4", seen: []string{"::ffff:192.0.2.6", "192.0.2.7"}, want: []string{"192.0.2.6/31+0"}},
		{name: "widened no more than needed", seen: []string{"192.0.2.1", "192.0.2.6"}, widen4: 24, want: []string{"192.0.2.0/29+6"}},
		{name: "widened no further than told", seen: []string{"192.0.2.1", "192.0.3.1"}, widen4: 24, want: []string{"192.0.2.1+0", "192.0.3.1+0"}},
		{name: "one alone is not widened", seen: []string{"192.0.2.1"}, widen4: 24, want: []string{"192.0.2.1+0"}},
		{name: "IPv6 widened", seen: []string{"2001:db8::1", "2001:db8:0:3::1"}, widen6: 56, want: []string{"2001:db8::/62+2"}},
		{name: "IPv4's length is not IPv6's", seen: []string{"2001:db8::1", "2001:db8:0:3::1"}, widen4: 24, want: []string{"2001:db8::/64+0", "2001:db8:0:3::/64+0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := usage.Propose(seen(c.seen...), usage.ProposalOptions{Widen4: c.widen4, Widen6: c.widen6})
			if got := entries(p); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestProposeFullBlocksMergePastTheWidenLength(t *testing.T) {
	var all []string
	for i := range 512 {
		all = append(all, fmt.Sprintf("10.0.%d.%d", i/256, i%256))
	}
	all = append(all, "10.0.2.1", "10.0.2.2")
	got := entries(usage.Propose(seen(all...), usage.ProposalOptions{Widen4: 24}))
	if want := []string{"10.0.0.0/23+0", "10.0.2.0/30+2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestProposeLeavesOut(t *testing.T) {
	day2 := day1.AddDate(0, 0, 1)
	u := &usage.KeyUsage{Rows: []usage.Row{
		allowed("192.0.2.1", 5, day1), allowed("192.0.2.1", 5, day2),
		allowed("192.0.2.9", 9, day2),
		allowed("198.51.100.1", 2, day1), allowed("198.51.100.1", 1, day2),
		allowed("203.0.113.1", 100, day1),
	}}
	refused := allowed("203.0.113.9", 0, day2)
	refused.Refused[5] = 3
	u.Rows = append(u.Rows, refused)
	usage.SortRows(u.Rows)

	p := usage.Propose(u, usage.ProposalOptions{Since: day2, MinRequests: 2})
	if got, want := entries(p), []string{"192.0.2.1+0", "192.0.2.9+0"}; !slices.Equal(got, want) {
		t.Errorf("entries %v, want %v", got, want)
	}
	wantLeft := []usage.LeftOut{
		{Network: netip.MustParsePrefix("198.51.100.1/32"), Requests: 1, Reason: usage.TooFewRequests},
		{Network: netip.MustParsePrefix("203.0.113.1/32"), Requests: 100, Reason: usage.TooOld},
	}
	if !slices.Equal(p.LeftOut, wantLeft) {
		t.Errorf("left out %v, want %v", p.LeftOut, wantLeft)
	}
	if want := (usage.Coverage{Addresses: 2, Requests: 14}); p.Coverage != want {
		t.Errorf("coverage %+v, want %+v", p.Coverage, want)
	}

	p = usage.Propose(u, usage.ProposalOptions{MinDays: 2})
	if got, want := entries(p), []string{"192.0.2.1+0", "198.51.100.1+0"}; !slices.Equal(got, want) {
		t.Errorf("of two days: %v, want %v", got, want)
	}
	if p.Entries[0].Days != 2 || p.Entries[0].Requests != 10 {
		t.Errorf("the first entry stands for %+v, want 10 requests of 2 days", p.Entries[0])
	}

	p = usage.Propose(u, usage.ProposalOptions{MaxEntries: 2})
	if got, want := entries(p), []string{"192.0.2.1+0", "203.0.113.1+0"}; !slices.Equal(got, want) {
		t.Errorf("at most 2: %v, want %v", got, want)
	}
	if n := len(p.LeftOut); n != 2 || p.LeftOut[0].Reason != usage.TooManyEntries {
		t.Errorf("left out %v, want two of too many entries", p.LeftOut)
	}
}

// TestProposeOracle compares proposals for random addresses with a search over all sets of ranges: each
// address is covered, the added ones are counted exactly, and no smaller set covers them.
func TestProposeOracle(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		widen := []int{0, 24, 26, 28, 30, 32}[rng.IntN(6)]
		n := 1 + rng.IntN(40)
		var addresses []string
		set := make(map[netip.Addr]bool)
		for range n {
			a := netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.IntN(256))})
			if rng.IntN(3) > 0 && len(addresses) > 0 { // near another
				a = netip.MustParseAddr(addresses[rng.IntN(len(addresses))]).Next()
			}
			if !set[a] {
				set[a] = true
				addresses = append(addresses, a.String())
			}
		}
		p := usage.Propose(seen(addresses...), usage.ProposalOptions{Widen4: widen})
		list := keystore.NewWhitelist(p.Prefixes())
		adds := uint64(0)
		for a := netip.MustParseAddr("192.0.0.0"); a.Less(netip.MustParseAddr("192.0.5.0")); a = a.Next() {
			switch in := list.Contains(a); {
			case set[a] && !in:
				t.Fatalf("%v of %v is not in %v", a, addresses, p.Prefixes())
			case in && !set[a]:
				adds++
			}
		}
		if adds != p.Coverage.Adds {
			t.Fatalf("%v adds %d to %v, and says %d", p.Prefixes(), adds, addresses, p.Coverage.Adds)
		}
		root := netip.MustParsePrefix("192.0.0.0/21")
		if least := fewest(root, set, widen); len(p.Entries) != least {
			t.Fatalf("%d ranges %v for %v widened to %d, and %d would do", len(p.Entries), p.Prefixes(), addresses, widen, least)
		}
	}
}

// fewest returns the smallest number of ranges within p that cover the addresses of the set in p. Each range
// is completely in the set, or no shorter than the widen length.
func fewest(p netip.Prefix, set map[netip.Addr]bool, widen int) int {
	in, whole := 0, true
	for a := p.Addr(); p.Contains(a); a = a.Next() {
		if set[a] {
			in++
		} else {
			whole = false
		}
	}
	switch {
	case in == 0:
		return 0
	case whole || widen > 0 && p.Bits() >= widen:
		return 1
	}
	left := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	last := left.Addr()
	for range 1 << (32 - left.Bits()) {
		last = last.Next()
	}
	return fewest(left, set, widen) + fewest(netip.PrefixFrom(last, left.Bits()), set, widen)
}

func TestEvaluate(t *testing.T) {
	u := seen("192.0.2.1", "192.0.2.200", "2001:db8::1", "2001:db8:0:1::1")
	for _, c := range []struct {
		list []string
		want []string // refused, with the reason
	}{
		{[]string{"0.0.0.0/0", "::/0"}, nil},
		{[]string{"192.0.2.0/25", "2001:db8::/32"}, []string{"192.0.2.200 not listed"}},
		{[]string{"192.0.2.0/24", "2001:db8::1/128", "2001:db8:0:1::/65", "2001:db8:0:1:8000::/65"}, []string{"2001:db8::/64 partly listed"}},
		{[]string{"198.51.100.0/24"}, []string{"192.0.2.1 not listed", "192.0.2.200 not listed", "2001:db8::/64 not listed", "2001:db8:0:1::/64 not listed"}},
	} {
		var list []netip.Prefix
		for _, s := range c.list {
			list = append(list, netip.MustParsePrefix(s))
		}
		e := usage.Evaluate(u, keystore.NewWhitelist(list), time.Time{})
		var got []string
		for _, r := range e.Refused {
			got = append(got, usage.FormatNetwork(r.Network)+" "+r.Reason)
		}
		if !slices.Equal(got, c.want) || e.Requests != 4 || e.RefusedRequests != uint64(len(c.want)) {
			t.Errorf("%v refuses %v (%d of %d), want %v", c.list, got, e.RefusedRequests, e.Requests, c.want)
		}
	}
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := usage.FormatNetwork(usage.Network(netip.MustParseAddr(in))); got != want {
			t.Errorf("Network(%s) is %s, want %s", in, got, want)
		}
	}
	if usage.Network(netip.Addr{}).IsValid() {
		t.Error("the zero Addr has a network")
	}
}

func TestDay(t *testing.T) {
	for _, s := range []string{"1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2026-03-01T23:59:59.999Z"} {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		if got := usage.DayOf(at).String(); got != s[:10] {
			t.Errorf("DayOf(%s) is %s", s, got)
		}
	}
}
