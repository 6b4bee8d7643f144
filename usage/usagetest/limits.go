package usagetest

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"extauthz/authz"
	"extauthz/usage"
)

func testFull(t *testing.T, open Open) {
	s := open(t, "s", usage.Limits{AddressesPerKey: 4, Retention: limits.Retention})
	add(t, s, batch(
		row("key_a", "192.0.2.1", Now.Add(-4*time.Minute), 100), // used most
		row("key_a", "192.0.2.2", Now.Add(-5*time.Minute), 90),
		row("key_a", "192.0.2.3", Now.Add(-3*time.Minute), 1),
		row("key_a", "192.0.2.4", Now.Add(-2*time.Minute), 1),
	))
	if u := key(t, s, "key_a", time.Time{}); len(u.Rows) != 4 || !u.Dropped.IsZero() {
		t.Errorf("a table that is just full has %d rows and dropped some at %s", len(u.Rows), u.Dropped)
	}
	add(t, s, batch(
		row("key_a", "192.0.2.5", Now.Add(-time.Minute), 1), // newest
		row("key_a", "192.0.2.6", Now, 1),
		row("key_b", "192.0.2.6", Now, 1),
	))
	u := key(t, s, "key_a", time.Time{})
	var got []string
	for _, a := range u.Addresses(time.Time{}) {
		got = append(got, usage.FormatNetwork(a.Network))
	}
	if want := []string{"192.0.2.1", "192.0.2.2", "192.0.2.5", "192.0.2.6"}; !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	if u.Complete(Now.Add(-time.Hour)) {
		t.Error("it says that it is complete")
	}
	if !u.LastUsed.Equal(Now) {
		t.Errorf("last used %s, want %s", u.LastUsed, Now)
	}
	if u := key(t, s, "key_b", time.Time{}); len(u.Rows) != 1 || !u.Complete(time.Time{}) {
		t.Errorf("another key is affected: %+v", u)
	}
}

func testRetention(t *testing.T, open Open) {
	short := usage.Limits{AddressesPerKey: 256, Retention: 2 * 24 * time.Hour}
	s := open(t, "s", limits)
	old, recent := row("key_a", "192.0.2.7", Now.AddDate(0, 0, -5), 1), row("key_b", "192.0.2.7", Now, 1)
	add(t, s, batch(old))
	s = open(t, "s", short) // a process that has just started clears up with its first batch
	add(t, s, batch(recent))
	u := key(t, s, "key_a", time.Time{})
	wantRows(t, u.Rows)
	if !u.LastUsed.Equal(old.Last) || u.LastNetwork.IsValid() {
		t.Errorf("it was last used at %s from %s, want %s and no address any more", u.LastUsed, u.LastNetwork, old.Last)
	}
	wantRows(t, key(t, s, "key_b", time.Time{}).Rows, recent)
}

func testSharers(t *testing.T, open Open) {
	s := open(t, "s", limits)
	add(t, s, batch(
		row("key_b", "192.0.2.7", Now, 1), row("key_a", "192.0.2.7", Now, 1), row("key_a", "192.0.2.8", Now, 1),
		refusal("key_c", "192.0.2.7", Now, authz.Forbidden, 1), row("key_d", "192.0.2.7", Now.AddDate(0, 0, -3), 1),
		row("key_a", "2001:db8::1", Now, 1), row("key_b", "2001:db8::2", Now, 1),
	))
	networks := []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("192.0.2.9/32"), netip.MustParsePrefix("2001:db8::/64")}
	got, err := s.Sharers(t.Context(), networks, Now.AddDate(0, 0, -1))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]string{{"key_a", "key_b"}, nil, {"key_a", "key_b"}} {
		if !slices.Equal(got[networks[i]], want) {
			t.Errorf("%s is shared by %v, want %v", networks[i], got[networks[i]], want)
		}
	}
}

func testRefusals(t *testing.T, open Open) {
	s := open(t, "s", limits)
	newest := refusal("key_a", "192.0.2.1", Now, authz.Forbidden, 1)
	older := refusal("key_b", "192.0.2.2", Now.Add(-time.Second), authz.RateLimited, 2)
	add(t, s, batch(older, newest, row("key_a", "192.0.2.3", Now, 5), refusal("key_a", "192.0.2.4", Now.Add(-time.Minute), authz.Expired, 1)))
	for _, c := range []struct {
		since time.Time
		limit int
		want  []usage.Row
	}{
		{Now.Add(-10 * time.Second), 10, []usage.Row{newest, older}},
		{Now.Add(-10 * time.Second), 1, []usage.Row{newest}},
		{Now.Add(time.Second), 10, nil},
	} {
		rows, err := s.Refusals(t.Context(), c.since, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		wantRows(t, rows, c.want...)
	}
}

func testLarge(t *testing.T, open Open) {
	s := open(t, "s", limits)
	const keys = 5000
	rows := make([]usage.Row, 0, 2*keys)
	for i := range keys {
		id := fmt.Sprintf("key_%05d", i)
		rows = append(rows, row(id, "192.0.2.7", Now, 1), row(id, "2001:db8::7", Now, 2))
	}
	b := batch(rows...)
	add(t, s, b)
	add(t, s, b)
	n := 0
	for u, err := range s.Summaries(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("key_%05d", n); u.KeyID != want {
			t.Fatalf("summary %d is of %s, want %s", n, u.KeyID, want)
		}
		n++
	}
	if n != keys {
		t.Errorf("%d summaries, want %d", n, keys)
	}
	wantRows(t, key(t, s, "key_04999", time.Time{}).Rows, row("key_04999", "192.0.2.7", Now, 2), row("key_04999", "2001:db8::7", Now, 4))
}

func testServers(t *testing.T, open Open) {
	s := open(t, "s", limits)
	report := func(name string, at time.Time, up bool) usage.ServerReport {
		r := usage.ServerReport{Name: name, Version: "v1", ChannelUp: up, Time: at}
		if err := s.ReportServer(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	report("b", Now.Add(-2*usage.ForgetServersAfter), true)
	report("c", Now.Add(-time.Hour), true)
	a := report("a", Now, false)
	report("d", Now.Add(-time.Minute), true)
	d := report("d", Now, true)
	got, err := open(t, "s", limits).Servers(t.Context(), Now.Add(-time.Minute))
	for i := range got {
		got[i].Time = got[i].Time.UTC()
	}
	if want := []usage.ServerReport{a, d}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}
