package postgres

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

// TestSearch compares the queries with [keystore.Query.Matches] over random keys.
func TestSearch(t *testing.T) {
	s := openFresh(t)
	rng := rand.New(rand.NewPCG(3, 4))
	now := time.Now().UTC().Truncate(time.Second)
	var all []*keystore.Key
	for i := range 300 {
		k := storetest.NewKey(fmt.Sprintf("key_%s%03d", []string{"a", "A_", "b"}[rng.IntN(3)], i))
		k.Name = []string{"", "Acme, 100%", "acme_x", "Globex"}[rng.IntN(4)]
		k.ExternalID = []string{"", "acme", "ACME", "globex\\x"}[rng.IntN(4)]
		k.Enabled = rng.IntN(3) > 0
		if rng.IntN(4) > 0 {
			k.Whitelist = storetest.Whitelist(fmt.Sprintf("10.%d.0.0/16", rng.IntN(4)), []string{"192.0.2.7", "2001:db8::/32", "0.0.0.0/0"}[rng.IntN(3)])
			if rng.IntN(3) == 0 {
				k.WhitelistMode = keystore.Report
			}
		}
		if rng.IntN(2) == 0 {
			k.Expires = now.Add(time.Duration(rng.IntN(100)-50) * time.Hour)
		}
		all = append(all, k)
	}
	if err := s.Put(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b *keystore.Key) int { return strings.Compare(a.ID, b.ID) })
	for range 300 {
		q := keystore.Query{
			Text:  []string{"", "", "key_a", "acme", "ACME", "Acme, 100%", "globex\\", "nothing", "acme_", "%"}[rng.IntN(10)],
			State: keystore.State(rng.IntN(4)), Limit: []int{0, 1, 7, 50}[rng.IntN(4)],
		}
		if rng.IntN(3) == 0 {
			q.Address = netip.MustParseAddr([]string{"10.1.2.3", "192.0.2.7", "2001:db8::1", "203.0.113.9", "::ffff:10.2.0.1"}[rng.IntN(5)])
		}
		if rng.IntN(4) == 0 {
			q.ExpiresAfter = now.Add(time.Duration(rng.IntN(100)-50) * time.Hour)
		}
		if rng.IntN(4) == 0 {
			q.ExpiresBefore = now.Add(time.Duration(rng.IntN(100)-50) * time.Hour)
		}
		if rng.IntN(3) == 0 {
			q.After = all[rng.IntN(len(all))].ID
		}
		var want []string
		for _, k := range all {
			if k.ID > q.After && q.Matches(k) && (q.Limit == 0 || len(want) < q.Limit) {
				want = append(want, k.ID)
			}
		}
		found, err := s.Search(t.Context(), q)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		var got []string
		for _, k := range found {
			got = append(got, k.ID)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%+v:\n got %v\nwant %v", q, got, want)
		}
	}
}

// BenchmarkSearch prints the latency of the dashboard's list and its searches among many keys.
func BenchmarkSearch(b *testing.B) {
	const keys = 1_000_000
	s := openFresh(b)
	began := time.Now()
	for from := 0; from < keys; from += 50_000 {
		if err := s.Put(b.Context(), benchKeys(from, 50_000)); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("put %d keys in %s", keys, time.Since(began))
	if _, err := s.pool.Exec(b.Context(), "VACUUM ANALYZE extauthz.keys"); err != nil {
		b.Fatal(err)
	}
	last := benchKeys(keys-1, 1)[0]
	addr := last.Whitelist.Prefixes()[0].Addr()
	for name, q := range map[string]keystore.Query{
		"list": {Limit: 51}, "list far": {After: last.ID[:len(last.ID)-4], Limit: 51}, "id": {Text: last.ID, Limit: 51},
		"common": {Text: last.ID[:4], Limit: 51}, "nothing": {Text: "nothing", Limit: 51}, "address": {Address: addr, Limit: 51}, "popular address": {Address: netip.MustParseAddr("192.0.2.7"), Limit: 51},
		"no address": {Address: netip.MustParseAddr("203.0.113.9"), Limit: 51}, "disabled": {State: keystore.StateDisabled, Limit: 51},
		"unrestricted": {State: keystore.StateUnrestricted, Limit: 51}, "expiring": {ExpiresAfter: time.Now(), ExpiresBefore: time.Now().AddDate(0, 1, 0), Limit: 51},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Search(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
