package redis

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

var anyHash = storetest.SecretOf("any").Hash()

func TestDecode(t *testing.T) {
	sound := func(record string) {
		t.Helper()
		if k := decode(anyHash, []byte(record)); k.Broken != nil {
			t.Errorf("%s: %v", record, k.Broken)
		}
	}
	broken := func(record, why string) {
		t.Helper()
		k := decode(anyHash, []byte(record))
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
	broken(`{"id":"a"}{}`, "something stands after")
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
	broken(`{"id":"a","ip_whitelist":["10.0.0.0/8"],"ip_whitelist":["0.0.0.0/0"]}`, "stands twice")
	broken(`{"id":"a","enabled":"false"}`, "enabled: a string does not fit")
	broken(`{"id":"a","expires":"tomorrow"}`, "expires:")
	broken(`{"id":"a","hash":"`+storetest.SecretOf("b").Hash().String()+`"}`, "stored under")
	broken(`{"id":"a","ratelimits":[{"name":"r","limit":1,"duration":"1m","burst":2}]}`, `"burst" is not a field`)
	broken(`{"id":"a","ratelimits":[{"name":"r","limit":0,"duration":"1m"}]}`, "limit")
}

// FuzzDecode: no bytes make it panic, and none make an unrestricted key unless plain JSON has
// no whitelist in any spelling either. What is sound is written and read again the same.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		``, `{"id":"a"}`, `{"id":"a","ip_whitelist":["10.0.0.0/8","::1"],"enabled":false}`, `{"id":"a","ip_whitelist":null}`,
		`{"id":"a","expires":"2027-01-31T00:00:00Z","meta":{"a":[1]},"ratelimits":[{"name":"r","limit":1,"duration":"1m","auto_apply":false}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k := decode(anyHash, data)
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
		record, err := encode(k)
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		again := decode(anyHash, []byte(record))
		if again.Broken != nil {
			t.Fatalf("%q was written as %q: %v", data, record, again.Broken)
		}
		if twice, _ := encode(again); twice != record || !again.Whitelist.Equal(k.Whitelist) {
			t.Fatalf("%q was written as %q, then %q", data, record, twice)
		}
	})
}

func TestExpiresKept(t *testing.T) {
	k := storetest.NewKey("a")
	k.Expires = time.Date(2027, 1, 31, 1, 2, 3, 456789123, time.FixedZone("", 3600))
	record, err := encode(k)
	if err != nil {
		t.Fatal(err)
	}
	if got := decode(k.Hash, []byte(record)); got.Broken != nil || !got.Expires.Equal(k.Expires) {
		t.Errorf("%s: %v, want %v", record, got.Expires, k.Expires)
	}
}
