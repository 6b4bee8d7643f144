// Package usagetest is the conformance test of stores of usage, for the contract of [usage.Store].
package usagetest

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"extauthz/authz"
	"extauthz/usage"
)

// Open opens an empty store or, with the name of an earlier call in the same test, the same store
// again, as another process would. The store is closed when the test ends.
type Open func(t *testing.T, name string, limits usage.Limits) usage.Store

// Now is the time around which all times of these tests are. It is recent, since stores keep nothing
// that is older than their retention.
var Now = time.Now().UTC().Truncate(time.Second)

var limits = usage.Limits{AddressesPerKey: 256, Retention: 30 * 24 * time.Hour}

// Run runs the tests. Each opens its own store.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, open Open)
	}{
		{"a key that was never used", testUnused},
		{"what was added is read", testRoundTrip},
		{"batches add up", testAddsUp},
		{"replicas add up", testReplicas},
		{"since", testSince},
		{"summaries in order", testSummaries},
		{"summaries of some keys", testSummariesOf},
		{"a full table keeps the most used and the newest", testFull},
		{"old rows leave", testRetention},
		{"sharers", testSharers},
		{"refusals", testRefusals},
		{"a large batch", testLarge},
		{"servers", testServers},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open) })
	}
}

func row(id, address string, at time.Time, allowed uint64) usage.Row {
	return usage.Row{
		KeyID: id, Network: usage.Network(netip.MustParseAddr(address)), Day: usage.DayOf(at),
		Counts: usage.Counts{Allowed: allowed}, First: at, Last: at,
	}
}

func refusal(id, address string, at time.Time, code authz.Code, n uint64) usage.Row {
	r := row(id, address, at, 0)
	r.Refused[code] = n
	return r
}

// batch returns the rows with a summary of each of their keys.
func batch(rows ...usage.Row) *usage.Batch {
	b := &usage.Batch{Rows: rows}
	at := make(map[string]int)
	for i := range rows {
		r := &rows[i]
		s := usage.Summary{KeyID: r.KeyID, LastUsed: r.Last, LastNetwork: r.Network, LastCurrent: r.Last}
		if j, ok := at[r.KeyID]; ok {
			b.Summaries[j].Merge(&s)
			continue
		}
		at[r.KeyID] = len(b.Summaries)
		b.Summaries = append(b.Summaries, s)
	}
	return b
}

// add adds a copy of the batch.
func add(t *testing.T, s usage.Store, b *usage.Batch) {
	t.Helper()
	b = &usage.Batch{Rows: slices.Clone(b.Rows), Summaries: slices.Clone(b.Summaries)}
	if err := s.Add(t.Context(), b); err != nil {
		t.Fatalf("Add: %v", err)
	}
	if len(b.Rows)+len(b.Summaries) > 0 {
		t.Errorf("Add left %d rows and %d summaries in the batch", len(b.Rows), len(b.Summaries))
	}
}

func key(t *testing.T, s usage.Store, id string, since time.Time) *usage.KeyUsage {
	t.Helper()
	u, err := s.Key(t.Context(), id, since)
	if err != nil {
		t.Fatalf("Key(%s): %v", id, err)
	}
	return u
}

// wantRows compares rows, for which stores may keep times in any zone.
func wantRows(t *testing.T, got []usage.Row, want ...usage.Row) {
	t.Helper()
	utc := func(rows []usage.Row) []usage.Row {
		rows = slices.Clone(rows)
		for i := range rows {
			rows[i].First, rows[i].Last = rows[i].First.UTC(), rows[i].Last.UTC()
		}
		return rows
	}
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if g, w := utc(got), utc(want); !reflect.DeepEqual(g, w) {
		t.Errorf("rows:\n got %+v\nwant %+v", g, w)
	}
}

func testUnused(t *testing.T, open Open) {
	s := open(t, "s", limits)
	u := key(t, s, "key_a", time.Time{})
	if !reflect.DeepEqual(u.Summary, usage.Summary{KeyID: "key_a"}) || len(u.Rows) > 0 {
		t.Errorf("got %+v, want nothing but the id", u)
	}
	for s, err := range s.Summaries(t.Context(), "") {
		t.Errorf("a summary %+v (%v) of no key", s, err)
	}
	rows, err := s.Refusals(t.Context(), time.Time{}, 10)
	if len(rows) > 0 || err != nil {
		t.Errorf("refusals %v, %v", rows, err)
	}
}

func testRoundTrip(t *testing.T, open Open) {
	s := open(t, "s", limits)
	b := batch(
		row("key_a", "192.0.2.7", Now, 12),
		row("key_a", "2001:db8::7", Now, 1),
		refusal("key_a", "192.0.2.8", Now.Add(time.Second), authz.Forbidden, 3),
		row("key_b", "192.0.2.7", Now, 1),
	)
	b.Rows[0].WouldRefuse = 4
	b.Rows[2].Refused[authz.RateLimited] = 1 << 40
	b.Summaries[0].LastPrevious = Now.Add(-time.Hour)
	b.Summaries[0].Dropped = Now.Add(-time.Minute)
	add(t, s, b)

	for _, s := range []usage.Store{s, open(t, "s", limits)} {
		u := key(t, s, "key_a", time.Time{})
		wantRows(t, u.Rows, b.Rows[0], b.Rows[2], b.Rows[1])
		want := usage.Summary{
			KeyID: "key_a", LastUsed: Now.Add(time.Second), LastNetwork: netip.MustParsePrefix("192.0.2.8/32"),
			LastCurrent: Now.Add(time.Second), LastPrevious: Now.Add(-time.Hour), Dropped: Now.Add(-time.Minute),
		}
		wantSummary(t, u.Summary, want)
	}
}

func wantSummary(t *testing.T, got, want usage.Summary) {
	t.Helper()
	for _, p := range []*time.Time{&got.LastUsed, &got.LastCurrent, &got.LastPrevious, &got.Dropped} {
		if !p.IsZero() {
			*p = p.UTC()
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("summary:\n got %+v\nwant %+v", got, want)
	}
}

func testAddsUp(t *testing.T, open Open) {
	s := open(t, "s", limits)
	first, second := row("key_a", "192.0.2.7", Now, 2), row("key_a", "192.0.2.7", Now.Add(time.Second), 3)
	second.Day = first.Day // around midnight too
	second.Refused[authz.Expired] = 1
	add(t, s, batch(second))
	add(t, s, batch(first)) // late
	want := first
	want.Allowed, want.Refused, want.Last = 5, second.Refused, second.Last
	u := key(t, s, "key_a", time.Time{})
	wantRows(t, u.Rows, want)
	if !u.LastUsed.Equal(second.Last) {
		t.Errorf("last used %s, want %s", u.LastUsed, second.Last)
	}
}

// testReplicas has ten replicas add to the same rows at once, in different orders.
func testReplicas(t *testing.T, open Open) {
	const replicas, rounds = 10, 5
	var wg sync.WaitGroup
	errs := make(chan error, replicas*rounds)
	for i := range replicas {
		s := open(t, "s", limits)
		wg.Go(func() {
			for range rounds {
				rows := []usage.Row{row("key_a", "192.0.2.7", Now, 1), row("key_a", "192.0.2.8", Now, 1), row("key_b", "192.0.2.7", Now, 1)}
				if i%2 == 1 {
					slices.Reverse(rows)
				}
				errs <- s.Add(context.WithoutCancel(t.Context()), batch(rows...))
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatalf("Add: %v", err)
		}
	}
	s := open(t, "s", limits)
	wantRows(t, key(t, s, "key_a", time.Time{}).Rows, row("key_a", "192.0.2.7", Now, replicas*rounds), row("key_a", "192.0.2.8", Now, replicas*rounds))
	wantRows(t, key(t, s, "key_b", time.Time{}).Rows, row("key_b", "192.0.2.7", Now, replicas*rounds))
}

func testSince(t *testing.T, open Open) {
	s := open(t, "s", limits)
	old, recent := row("key_a", "192.0.2.7", Now.AddDate(0, 0, -3), 1), row("key_a", "192.0.2.7", Now, 1)
	add(t, s, batch(old, recent))
	wantRows(t, key(t, s, "key_a", time.Time{}).Rows, old, recent)
	wantRows(t, key(t, s, "key_a", recent.Last).Rows, recent)
	u := key(t, s, "key_a", Now.Add(time.Hour))
	wantRows(t, u.Rows)
	if !u.LastUsed.Equal(recent.Last) {
		t.Errorf("last used %s, want %s, whatever the rows are", u.LastUsed, recent.Last)
	}
}

func testSummaries(t *testing.T, open Open) {
	s := open(t, "s", limits)
	add(t, s, batch(row("key_b", "192.0.2.7", Now, 1), row("key_a", "192.0.2.7", Now, 1), row("key-c", "2001:db8::1", Now, 1)))
	ids := func(after string) []string {
		var ids []string
		for u, err := range s.Summaries(t.Context(), after) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, u.KeyID)
			if !u.LastUsed.Equal(Now) {
				t.Errorf("%s was last used at %s, want %s", u.KeyID, u.LastUsed, Now)
			}
		}
		return ids
	}
	if got, want := ids(""), []string{"key-c", "key_a", "key_b"}; !slices.Equal(got, want) {
		t.Errorf("ids %v, want %v", got, want)
	}
	if got, want := ids("key_a"), []string{"key_b"}; !slices.Equal(got, want) {
		t.Errorf("ids after key_a %v, want %v", got, want)
	}
}

func testSummariesOf(t *testing.T, open Open) {
	s := open(t, "s", limits)
	of := func(ids ...string) map[string]*usage.Summary {
		t.Helper()
		found, err := s.SummariesOf(t.Context(), ids)
		if err != nil {
			t.Fatalf("SummariesOf(%d ids): %v", len(ids), err)
		}
		return found
	}
	if found := of("key_a"); len(found) > 0 {
		t.Errorf("an empty store has %+v", found)
	}
	var rows []usage.Row
	ids := []string{"key_none", "a'b\"c,{}"}
	for i := range 600 {
		rows = append(rows, row(fmt.Sprintf("key_%03d", i), "192.0.2.7", Now.Add(-time.Duration(i)*time.Second), 1))
		ids = append(ids, rows[i].KeyID)
	}
	add(t, s, batch(rows...))
	found := of(ids...)
	if len(found) != len(rows) {
		t.Fatalf("%d summaries, want %d", len(found), len(rows))
	}
	for i := range rows {
		if u := found[rows[i].KeyID]; u == nil || u.KeyID != rows[i].KeyID || !u.LastUsed.Equal(rows[i].Last) || u.LastNetwork != rows[i].Network {
			t.Errorf("%s: %+v, want %s at %s", rows[i].KeyID, u, rows[i].Network, rows[i].Last)
		}
	}
	if found := of("key_001", "key_none"); len(found) != 1 || found["key_001"] == nil {
		t.Errorf("of two keys, one of which was used: %+v", found)
	}
	if found := of(); len(found) > 0 {
		t.Errorf("of no key: %+v", found)
	}
}
