package storetest

import (
	"fmt"
	"testing"
	"time"

	"extauthz/keystore"
)

// RunCount tests that [keystore.Count] counts what a Backend holds.
func RunCount(t *testing.T, b Backend) {
	t.Helper()
	now := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	var want keystore.Counts
	n := 0
	add := func(k *keystore.Key) {
		t.Helper()
		must(t, b.Add(t.Context(), k))
		want.Add(k, now)
		n++
	}
	for i, after := range []time.Duration{-time.Second, 0, time.Second, keystore.Week, keystore.Week + time.Second, keystore.Month, keystore.Month + time.Second} {
		k := NewKey(fmt.Sprintf("key_expires_%d", i))
		k.Expires = now.Add(after)
		add(k)
	}
	for _, id := range []string{"key_report_1", "key_report_2", "key_report_3"} {
		add(RotatedKey(id))
	}
	everywhere := NewKey("key_everywhere")
	everywhere.WhitelistMode = keystore.Report
	add(everywhere)
	add(NewKey("key_plain", "10.0.0.0/8"))
	if (want != keystore.Counts{Report: 3, ExpiringWeek: 3, ExpiringMonth: 5}) {
		t.Fatalf("%+v are wanted", want)
	}
	got, err := keystore.Count(t.Context(), b, now, time.Millisecond)
	if must(t, err); got != want {
		t.Errorf("%d keys: %+v, want %+v", n, got, want)
	}
}
