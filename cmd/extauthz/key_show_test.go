package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

// key show prints every field of a key except its hashes.
func TestPrintKey(t *testing.T) {
	k := &keystore.Key{
		ID: "key_a", Name: "Acme", Hash: keystore.Hash{1}, Whitelist: storetest.Whitelist("192.0.2.7"), WhitelistMode: keystore.Report,
		Previous: keystore.PreviousSecret{Hash: keystore.Hash{2}, Until: time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)},
		Enabled:  true, Expires: time.Date(2099, 1, 31, 0, 0, 0, 0, time.UTC), ExternalID: "acme",
		Permissions: []string{"a", "b"}, Roles: []string{"c"}, Ratelimits: []keystore.Ratelimit{{Name: "exports", Limit: 5, Duration: time.Hour, OnDemand: true}},
		Meta: json.RawMessage(`{ "plan": "pro" }`), Broken: errors.New("unreadable"),
	}
	for f, v := range reflect.ValueOf(*k).Fields() {
		if v.IsZero() {
			t.Errorf("this test leaves out %s", f.Name)
		}
	}
	var out bytes.Buffer
	if err := printKey(&out, k, nil); err != nil {
		t.Fatal(err)
	}
	want := `id                 key_a
name               Acme
enabled            true
expires            2099-01-31T00:00:00Z
ip_whitelist       192.0.2.7
ip_whitelist_mode  report
previous           the secret before the last rotation works until 2027-01-31T00:00:00Z
external_id        acme
permissions        a b
roles              c
ratelimit          exports: 5 in 1h0m0s, only on routes that name it
meta               {"plan":"pro"}
broken             unreadable: refused
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if n := strings.Count(want, "\n"); n != reflect.TypeFor[keystore.Key]().NumField()-1 { // the hash is left out
		t.Errorf("%d fields are printed of %d", n, reflect.TypeFor[keystore.Key]().NumField())
	}
}

func TestListedWhitelist(t *testing.T) {
	k := storetest.NewKey("key_a")
	for want, list := range map[string][]string{
		"192.0.2.7":                         {"192.0.2.7"},
		"192.0.2.7 ::1 10.0.0.0/8":          {"192.0.2.7", "::1", "10.0.0.0/8"},
		"192.0.2.7 ::1 10.0.0.0/8 … 1 more": {"192.0.2.7", "::1", "10.0.0.0/8", "192.0.2.8"},
	} {
		k.Whitelist = storetest.Whitelist(list...)
		for mode, suffix := range map[keystore.WhitelistMode]string{keystore.Enforce: "", keystore.Report: " (report only)"} {
			k.WhitelistMode = mode
			if got := whitelist(k); got != want+suffix {
				t.Errorf("%v, %s: %q, want %q", list, mode, got, want+suffix)
			}
		}
	}
}
