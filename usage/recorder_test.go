package usage_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"extauthz/authz"
	"extauthz/usage"
	"extauthz/usage/boltfile"
)

func newStore(t *testing.T) usage.Store {
	return boltfile.Open(filepath.Join(t.TempDir(), "usage.db"), usage.Limits{AddressesPerKey: 256, Retention: 1e6 * time.Hour})
}

// flaky is a store that returns err if it is set.
type flaky struct {
	usage.Store
	err error
}

func (f *flaky) Add(ctx context.Context, b *usage.Batch) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.Add(ctx, b)
}

func usageOf(t *testing.T, s usage.Store, id string) *usage.KeyUsage {
	t.Helper()
	u, err := s.Key(t.Context(), id, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestRecorderCounts(t *testing.T) {
	s := newStore(t)
	r := usage.NewRecorder(usage.RecorderConfig{Store: s})
	addr := netip.MustParseAddr("192.0.2.7")
	at := day1
	for _, e := range []usage.Event{
		{Addr: addr, Code: authz.Valid},
		{Addr: addr, Code: authz.Valid, WouldRefuse: true},
		{Addr: addr, Code: authz.Forbidden},
		{Addr: netip.MustParseAddr("::ffff:192.0.2.7"), Code: authz.RateLimited},
		{Addr: netip.MustParseAddr("2001:db8::1"), Code: authz.Valid},
		{Addr: netip.MustParseAddr("2001:db8::ffff"), Code: authz.Valid, Previous: true},
		{Code: authz.Forbidden}, // no client address
	} {
		at = at.Add(time.Second)
		e.KeyID, e.Time = "key_a", at
		r.Record(&e)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	u := usageOf(t, s, "key_a")
	if len(u.Rows) != 2 {
		t.Fatalf("rows %+v, want two", u.Rows)
	}
	four, six := u.Rows[0], u.Rows[1]
	want := usage.Counts{Allowed: 2, WouldRefuse: 1}
	want.Refused[authz.Forbidden], want.Refused[authz.RateLimited] = 1, 1
	if four.Counts != want || !four.First.Equal(day1.Add(time.Second)) || !four.Last.Equal(day1.Add(4*time.Second)) {
		t.Errorf("IPv4: %+v, want %+v from the first to the fourth second", four, want)
	}
	if six.Allowed != 2 || usage.FormatNetwork(six.Network) != "2001:db8::/64" {
		t.Errorf("IPv6: %+v, want 2 of 2001:db8::/64", six)
	}
	if !u.LastUsed.Equal(day1.Add(7*time.Second)) || u.LastNetwork.IsValid() || !u.LastPrevious.Equal(day1.Add(6*time.Second)) {
		t.Errorf("summary %+v", u.Summary)
	}
}

func TestRecorderKeepsWhatTheStoreDoesNotTake(t *testing.T) {
	s := &flaky{Store: newStore(t), err: errors.New("out of reach")}
	var flushed []error
	r := usage.NewRecorder(usage.RecorderConfig{Store: s, OnFlush: func(_ int, err error) { flushed = append(flushed, err) }})
	e := usage.Event{KeyID: "key_a", Addr: netip.MustParseAddr("192.0.2.7"), Code: authz.Valid, Time: day1}
	for range 3 {
		r.Record(&e)
		if err := r.Flush(t.Context()); err == nil {
			t.Fatal("Flush says that it succeeded")
		}
	}
	s.err = nil
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if u := usageOf(t, s, "key_a"); len(u.Rows) != 1 || u.Rows[0].Allowed != 3 {
		t.Errorf("rows %+v, want 3 requests of one", u.Rows)
	}
	if len(flushed) != 4 || flushed[0] == nil || flushed[3] != nil {
		t.Errorf("OnFlush had %v", flushed)
	}
	if err := r.Flush(t.Context()); err != nil || usageOf(t, s, "key_a").Rows[0].Allowed != 3 {
		t.Error("an empty buffer added something")
	}
}

func TestRecorderIsBounded(t *testing.T) {
	s := &flaky{Store: newStore(t), err: errors.New("out of reach")}
	r := usage.NewRecorder(usage.RecorderConfig{Store: s, AddressesPerKey: 8, MaxBuffered: 640})
	addr := netip.MustParseAddr("192.0.2.0")
	for i := range 100 { // one key from many addresses
		addr = addr.Next()
		r.Record(&usage.Event{KeyID: "key_a", Addr: addr, Code: authz.Valid, Time: day1.Add(time.Duration(i) * time.Second)})
	}
	for i := range 5000 { // many keys
		r.Record(&usage.Event{KeyID: fmt.Sprintf("key_%d", i), Addr: addr, Code: authz.Valid, Time: day1})
		if i%500 == 0 {
			_ = r.Flush(t.Context())
		}
	}
	s.err = nil
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	u := usageOf(t, s, "key_a")
	if len(u.Rows) != 8 || u.Complete(day1) || !u.LastUsed.Equal(day1.Add(99*time.Second)) {
		t.Errorf("%d rows, complete %v, last used %s; want 8, incomplete, the last second", len(u.Rows), u.Complete(day1), u.LastUsed)
	}
	rows, complete := 0, 0
	for i := range 5000 {
		u := usageOf(t, s, fmt.Sprintf("key_%d", i))
		rows += len(u.Rows)
		if u.LastUsed.IsZero() {
			t.Fatalf("the last use of key_%d is not known", i)
		}
		if len(u.Rows) == 0 && u.Complete(day1) {
			complete++
		}
	}
	if rows > 640 || rows < 100 || complete > 0 {
		t.Errorf("%d rows are kept, and %d keys without one say that they are complete", rows, complete)
	}
	if want := uint64(92 + 5000 - rows); r.Stats().Dropped != want {
		t.Errorf("dropped %d, want %d", r.Stats().Dropped, want)
	}
}

func TestRecorderRunFlushesAtTheEnd(t *testing.T) {
	s := newStore(t)
	r := usage.NewRecorder(usage.RecorderConfig{Store: s, Flush: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	for range 10 {
		wg.Go(func() {
			for i := range 1000 {
				r.Record(&usage.Event{KeyID: "key_a", Addr: netip.MustParseAddr("192.0.2.7"), Code: authz.Valid, Time: day1})
				if i%100 == 0 {
					_ = r.Flush(t.Context())
				}
			}
		})
	}
	time.AfterFunc(10*time.Millisecond, cancel)
	wg.Wait()
	_ = r.Flush(t.Context())
	if n := usageOf(t, s, "key_a").Rows[0].Allowed; n != 10000 {
		t.Errorf("%d requests, want 10000", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	for _, keys := range []int{1, 1000, 100000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			r := usage.NewRecorder(usage.RecorderConfig{Store: nil})
			events := make([]usage.Event, keys)
			for i := range events {
				events[i] = usage.Event{KeyID: fmt.Sprintf("key_%06d", i), Addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Code: authz.Valid, Time: day1}
				r.Record(&events[i])
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r.Record(&events[i])
				if i++; i == keys {
					i = 0
				}
			}
		})
	}
}
