package keystore_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

var anyHash = storetest.SecretOf("any").Hash()

func TestDecodeKey(t *testing.T) {
	sound := func(record string) {
		t.Helper()
		if k := keystore.DecodeKey(anyHash, []byte(record)); k.Broken != nil {
			t.Errorf("%s: %v", record, k.Broken)
		}
	}
	broken := func(record, why string) {
		t.Helper()
		k := keystore.DecodeKey(anyHash, []byte(record))
		if k.Broken == nil || !strings.Contains(k.Broken.Error(), why) {
			t.Errorf("%s: broken: %v, want %q", record, k.Broken, why)
		}
		if !k.Whitelist.Restricted() || len(k.Whitelist.Prefixes()) > 0 || keystore.ValidateID(k.ID) != nil || k.Hash != anyHash {
			t.Errorf("%s: a broken key that does not refuse, or cannot be named: %+v", record, k)
		}
	}
	sound(`{"id":"a"}`)
	sound(` {"id":"a", "hash":"` + anyHash.String() + `", "ip_whitelist":["10.0.0.0/8"], "enabled":false, "meta":{"x":null}} `)
	sound(`{"id":"a","expires":"2027-01-31T01:00:00+01:00","ratelimits":[{"name":"r","limit":1,"duration":"1m"}]}`)

	broken(``, "not a JSON object")
	broken(`null`, "not a JSON object")
	broken(`[]`, "not a JSON object")
	broken(`{"id":"a"`, "does not end")
	broken(`{"id":"a"}{}`, "text after the JSON object")
	broken(`{"id":"a",}`, "not JSON")
	broken(`{}`, "id: missing")
	broken(`{"id":"a b"}`, "id:")
	broken(`{"id":7}`, "id: a number does not fit")
	broken(`{"id":"a","ip_whitelst":["10.0.0.0/8"]}`, `"ip_whitelst" is not a field`)
	broken(`{"id":"a","IP_Whitelist":["10.0.0.0/8"]}`, `"IP_Whitelist" is not a field`)
	broken(`{"id":"a","ip_whitelist":[]}`, "the list is empty")
	broken(`{"id":"a","ip_whitelist":null}`, `"ip_whitelist" is null`)
	broken(`{"id":"a","ip_whitelist":[null]}`, "an empty entry")
	broken(`{"id":"a","ip_whitelist":"10.0.0.0/8"}`, "ip_whitelist: a string does not fit")
	broken(`{"id":"a","ip_whitelist":["10.1.2.3/8"]}`, "10.0.0.0/8")
	broken(`{"id":"a","ip_whitelist":["10.0.0.0/8"],"ip_whitelist":["0.0.0.0/0"]}`, "appears twice")
	broken(`{"id":"a","enabled":"false"}`, "enabled: a string does not fit")
	broken(`{"id":"a","expires":"tomorrow"}`, "expires:")
	broken(`{"id":"a","hash":"`+storetest.SecretOf("b").Hash().String()+`"}`, "stored under")
	broken(`{"id":"a","ratelimits":[{"name":"r","limit":1,"duration":"1m","burst":2}]}`, `"burst" is not a field`)
	broken(`{"id":"a","ratelimits":[{"name":"r","limit":0,"duration":"1m"}]}`, "limit")
}

// FuzzDecodeKey: no input causes a panic, and none results in a key without a whitelist if the JSON has a
// whitelist in any spelling. A valid key is encoded and decoded unchanged.
func FuzzDecodeKey(f *testing.F) {
	for _, seed := range []string{
		``, `{"id":"a"}`, `{"id":"a","ip_whitelist":["10.0.0.0/8","::1"],"enabled":false}`, `{"id":"a","ip_whitelist":null}`,
		`{"id":"a","expires":"2027-01-31T00:00:00Z","meta":{"a":[1]},"ratelimits":[{"name":"r","limit":1,"duration":"1m","auto_apply":false}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k := keystore.DecodeKey(anyHash, data)
		if k.Broken != nil {
			if !k.Whitelist.Equal(keystore.Whitelist{}) {
				t.Fatalf("a broken key with a whitelist: %q", data)
			}
			return
		}
		if !k.Whitelist.Restricted() {
			var plain map[string]any
			if err := json.Unmarshal(data, &plain); err != nil {
				t.Fatalf("unrestricted, but not JSON: %q", data)
			}
			for name := range plain {
				if strings.Contains(strings.ToLower(name), "whitel") {
					t.Fatalf("unrestricted, with a field %q", name)
				}
			}
		}
		record, err := keystore.EncodeKey(k)
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		again := keystore.DecodeKey(anyHash, record)
		if again.Broken != nil {
			t.Fatalf("%q was written as %q: %v", data, record, again.Broken)
		}
		if twice, _ := keystore.EncodeKey(again); !bytes.Equal(twice, record) || !again.Whitelist.Equal(k.Whitelist) {
			t.Fatalf("%q was written as %q, then %q", data, record, twice)
		}
	})
}

func TestExpiresKept(t *testing.T) {
	k := storetest.NewKey("a")
	k.Expires = time.Date(2027, 1, 31, 1, 2, 3, 456789123, time.FixedZone("", 3600))
	record, err := keystore.EncodeKey(k)
	if err != nil {
		t.Fatal(err)
	}
	if got := keystore.DecodeKey(k.Hash, record); got.Broken != nil || !got.Expires.Equal(k.Expires) {
		t.Errorf("%s: %v, want %v", record, got.Expires, k.Expires)
	}
}

// This test fails for a field of a key that is missing in the codec.
func TestEveryFieldIsEncoded(t *testing.T) {
	full := storetest.FullKey("key_full")
	full.WhitelistMode = keystore.Report
	full.Previous = keystore.PreviousSecret{Hash: storetest.SecretOf("old").Hash(), Until: time.Date(2027, 1, 31, 1, 2, 3, 456789123, time.UTC)}
	data, err := keystore.EncodeKey(full)
	if err != nil {
		t.Fatal(err)
	}
	again := keystore.DecodeKey(full.Hash, data)
	if again.Broken != nil {
		t.Fatalf("%s: %v", data, again.Broken)
	}
	v, w := reflect.ValueOf(*full), reflect.ValueOf(*again)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		switch {
		case name == "Broken", name == "Enabled": // false is the value that is not omitted
		case v.Field(i).IsZero():
			t.Errorf("the key has no %s", name)
		case w.Field(i).IsZero():
			t.Errorf("the codec loses %s", name)
		}
	}
	if storetest.Describe(full) != storetest.Describe(again) {
		t.Errorf("encoded and decoded:\n%s\nwant:\n%s", storetest.Describe(again), storetest.Describe(full))
	}
	again.Break(errors.New("why"))
	again.Previous.Hash = keystore.Hash{}
	data, err = keystore.EncodeKey(again)
	if err != nil || !bytes.Contains(data, []byte(`"broken":"why"`)) || bytes.Contains(data, []byte("ip_whitelist\"")) || bytes.Contains(data, []byte(`"hash"`)) {
		t.Errorf("a broken key without the previous hash: %s, %v", data, err)
	}
}

func TestDecodePartsOfAKey(t *testing.T) {
	hash := storetest.SecretOf("old").Hash().String()
	k := keystore.DecodeKey(anyHash, []byte(`{"id":"a","ip_whitelist":["10.0.0.0/8"],"ip_whitelist_mode":"report","previous":{"hash":"`+hash+`","until":"2027-01-31T01:00:00+01:00"}}`))
	if k.Broken != nil || k.WhitelistMode != keystore.Report || k.Previous.Hash.String() != hash || k.Previous.Until.Format(time.RFC3339) != "2027-01-31T00:00:00Z" {
		t.Errorf("%+v", k)
	}
	for record, why := range map[string]string{
		`{"id":"a","ip_whitelist_mode":"log"}`:                                       `ip_whitelist_mode: "log" is not a mode`,
		`{"id":"a","ip_whitelist_mode":""}`:                                          `ip_whitelist_mode: "" is not a mode`,
		`{"id":"a","ip_whitelist_mode":1}`:                                           "ip_whitelist_mode: a number does not fit",
		`{"id":"a","previous":{}}`:                                                   "previous: ",
		`{"id":"a","previous":[]}`:                                                   "previous: not a JSON object",
		`{"id":"a","previous":{"hash":"` + hash + `"}}`:                              "previous: until: missing",
		`{"id":"a","previous":{"until":"2027-01-31T00:00:00Z"}}`:                     "previous: hash: missing",
		`{"id":"a","previous":{"hash":"1","until":"2027-01-31T00:00:00Z"}}`:          "previous: hash: ",
		`{"id":"a","previous":{"hash":"` + hash + `","until":"soon"}}`:               `previous: until: "soon" is not a time`,
		`{"id":"a","previous":{"hash":"` + hash + `","hash":"` + hash + `"}}`:        `previous: "hash" appears twice`,
		`{"id":"a","previous":{"hash":"` + hash + `","since":"2027"}}`:               `previous: "since" is not a field of a previous secret`,
		`{"id":"a","permissions":[null]}`:                                            "permissions: an empty name",
		`{"id":"a","ratelimits":[null]}`:                                             "ratelimits: not a JSON object",
		`{"id":"a","ratelimits":[{"name":"r","limit":1.5,"duration":"1m"}]}`:         "ratelimits: limit: a number 1.5 does not fit",
		`{"id":"a","ratelimits":[{"name":"r","limit":1,"duration":60}]}`:             "ratelimits: duration: a number does not fit",
		`{"id":"a","ratelimits":[{"name":"r","limit":1,"duration":"1 minute"}]}`:     `ratelimits: duration: "1 minute" is not a duration`,
		`{"id":"a","ratelimits":[{"name":"r","limit":1,"limit":2,"duration":"1m"}]}`: `ratelimits: "limit" appears twice`,
		`{"id":"a","broken":"why"}`:                                                  `"broken" is not a field of a key`,
	} {
		if k := keystore.DecodeKey(anyHash, []byte(record)); k.Broken == nil || !strings.Contains(k.Broken.Error(), why) {
			t.Errorf("%s: broken: %v, want %q", record, k.Broken, why)
		}
	}
}

func TestDecodeRatelimits(t *testing.T) {
	want := []keystore.Ratelimit{{Name: "a", Limit: 1, Duration: time.Minute}, {Name: "b", Limit: 2, Duration: time.Hour, OnDemand: true}}
	data, err := keystore.EncodeRatelimits(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := keystore.DecodeRatelimits(data); err != nil || !slices.Equal(got, want) {
		t.Errorf("%s: %v, %v", data, got, err)
	}
	if got, err := keystore.DecodeRatelimits([]byte(`[{"name":"a","limit":1,"duration":"1m"}]`)); err != nil || !slices.Equal(got, want[:1]) {
		t.Errorf("without auto_apply: %v, %v", got, err)
	}
	for _, bad := range []string{``, `null`, `{}`, `[null]`, `[1]`, `[{"Name":"a"}]`, `[{"name":"a","name":"b"}]`, `[] []`} {
		if got, err := keystore.DecodeRatelimits([]byte(bad)); err == nil || !strings.Contains(err.Error(), "write a list such as") {
			t.Errorf("%s: %v, %v", bad, got, err)
		}
	}
}

func BenchmarkKeyJSON(b *testing.B) {
	k := storetest.FullKey("key_full")
	data, err := keystore.EncodeKey(k)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			keystore.EncodeKey(k)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			keystore.DecodeKey(k.Hash, data)
		}
	})
}
