package authz_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"extauthz/authz"
	"extauthz/keystore"
	"extauthz/keystore/cache"
	"extauthz/keystore/storetest"
)

var now = time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)

var errBroken = errors.New("a bad whitelist")

func clock() time.Time { return now }

// A counter counts the lookups of a store.
type counter struct {
	keystore.Store
	asked int
}

func (c *counter) Lookup(ctx context.Context, h keystore.Hash) (*keystore.Key, error) {
	c.asked++
	return c.Store.Lookup(ctx, h)
}

// A keyMap is a minimal store, which may also hold keys that no editor accepts.
type keyMap map[keystore.Hash]*keystore.Key

func (m keyMap) Lookup(_ context.Context, h keystore.Hash) (*keystore.Key, error) {
	if k, ok := m[h]; ok {
		return k, nil
	}
	return nil, keystore.ErrNotFound
}

func (m keyMap) add(id string, whitelist []string, change func(*keystore.Key)) {
	k := storetest.NewKey(id, whitelist...)
	if change != nil {
		change(k)
	}
	m[storetest.SecretOf(id).Hash()] = k
}

func parse(addr string) netip.Addr {
	if addr == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(addr)
}

func TestAuthorize(t *testing.T) {
	keys := keyMap{}
	list := []string{"192.168.1.100", "10.0.0.0/8", "2001:db8::/32"}
	expires := func(d time.Duration) func(*keystore.Key) {
		return func(k *keystore.Key) { k.Expires = now.Add(d) }
	}
	keys.add("anywhere", nil, nil)
	keys.add("listed", list, nil)
	keys.add("empty", nil, func(k *keystore.Key) { k.Whitelist = keystore.Whitelist{} })
	keys.add("zero", nil, func(k *keystore.Key) { *k = keystore.Key{Hash: k.Hash} })
	keys.add("disabled", list, func(k *keystore.Key) { k.Enabled = false })
	keys.add("expires now", list, expires(0))
	keys.add("expires later", list, expires(time.Nanosecond))
	keys.add("expired", list, expires(-time.Nanosecond))
	keys.add("disabled and expired", list, func(k *keystore.Key) { k.Enabled, k.Expires = false, now.Add(-1) })
	keys.add("broken", nil, func(k *keystore.Key) { k.Broken = errors.New("a bad whitelist") })
	keys.add("broken and expired", nil, func(k *keystore.Key) { k.Broken, k.Expires = errors.New("a bad whitelist"), now.Add(-1) })

	store := &counter{Store: keys}
	a := authz.New(store, clock)
	check := func(secret keystore.Secret, addr string, code authz.Code, id string, asked int) {
		t.Helper()
		store.asked = 0
		d, err := a.Authorize(t.Context(), authz.Request{Secret: secret, ClientAddr: parse(addr)})
		if err != nil || d.Code != code || (d.Key == nil) != (id == "") || d.Key != nil && d.Key != keys[storetest.SecretOf(id).Hash()] {
			t.Errorf("%s: %v with key %+v, error %v; want %v with %q", addr, d.Code, d.Key, err, code, id)
		}
		if store.asked != asked {
			t.Errorf("the store was asked %d times, want %d", store.asked, asked)
		}
	}
	allow := func(id string, addrs ...string) {
		t.Helper()
		for _, addr := range addrs {
			check(storetest.SecretOf(id), addr, authz.Valid, id, 1)
		}
	}
	deny := func(code authz.Code, id string, addrs ...string) {
		t.Helper()
		for _, addr := range addrs {
			check(storetest.SecretOf(id), addr, code, id, 1)
		}
	}
	unknown := func(secret keystore.Secret, asked int) {
		t.Helper()
		check(secret, "10.0.0.1", authz.NotFound, "", asked)
	}

	allow("anywhere", "203.0.113.9", "::1", "fe80::1%eth0", "")
	allow("listed", "192.168.1.100", "10.0.0.0", "10.255.255.255", "2001:db8::1", "::ffff:10.0.0.1")
	deny(authz.Forbidden, "listed", "192.168.1.101", "11.0.0.0", "9.255.255.255", "2001:db9::", "::10.0.0.1", "::ffff:10.0.0.1%eth0", "2001:db8::1%1", "")
	deny(authz.Forbidden, "empty", "10.0.0.1", "::1", "")
	deny(authz.Disabled, "zero", "10.0.0.1", "")

	check("", "10.0.0.1", authz.MissingKey, "", 0)
	unknown("no such secret", 1)
	unknown(storetest.SecretOf("listed")+" ", 1)
	unknown(storetest.SecretOf("listed")[1:], 1)
	unknown(storetest.SecretOf("listed")+","+storetest.SecretOf("listed"), 0)
	unknown(",", 0)

	long := keystore.Secret(strings.Repeat("s", keystore.MaxSecretLen))
	for _, s := range []keystore.Secret{long, long + "s"} {
		keys.add("long", nil, func(k *keystore.Key) { k.Hash = s.Hash(); keys[k.Hash] = k })
	}
	if d, err := a.Authorize(t.Context(), authz.Request{Secret: long}); err != nil || d.Code != authz.Valid {
		t.Errorf("a secret of 512 bytes: %v, %v", d.Code, err)
	}
	unknown(long+"s", 0)

	// The order: the first check that fails decides.
	deny(authz.Disabled, "disabled", "10.0.0.1", "203.0.113.9", "")
	deny(authz.Disabled, "disabled and expired", "10.0.0.1", "203.0.113.9")
	allow("expires now", "10.0.0.1") // the last moment
	allow("expires later", "10.0.0.1")
	deny(authz.Expired, "expired", "10.0.0.1", "203.0.113.9", "")
	deny(authz.Forbidden, "expires now", "203.0.113.9")
	deny(authz.Forbidden, "broken", "10.0.0.1", "")
	deny(authz.Expired, "broken and expired", "10.0.0.1")
}

func TestZeroValuesRefuse(t *testing.T) {
	if (authz.Decision{}).Code.Allowed() || (authz.Decision{}).Code != authz.Unavailable {
		t.Error("the zero Decision does not refuse")
	}
	d, err := authz.New(keyMap{}, clock).Authorize(t.Context(), authz.Request{})
	if err != nil || d.Code != authz.MissingKey {
		t.Errorf("the zero Request: %v, %v", d.Code, err)
	}
}

// If the store cannot answer, no decision is made, and the Decision refuses.
func TestAuthorizeStoreError(t *testing.T) {
	down := errors.New("connection refused")
	failing := storetest.NewMemory(storetest.NewKey("key_a"))
	failing.Fail(down)
	for name, test := range map[string]struct {
		store keystore.Store
		want  error
	}{
		"down":             {failing, down},
		"no key, no error": {keyMap{storetest.SecretOf("key_a").Hash(): nil}, nil},
	} {
		a := authz.New(test.store, clock)
		request := authz.Request{Secret: storetest.SecretOf("key_a"), ClientAddr: parse("10.0.0.1")}
		d, err := a.Authorize(t.Context(), request)
		if err == nil || test.want != nil && !errors.Is(err, test.want) || d != (authz.Decision{}) {
			t.Errorf("%s: %+v, error %v; want no decision", name, d, err)
		}
		e, _, again := a.Explain(t.Context(), request)
		if again == nil || e != d {
			t.Errorf("%s: Explain says %+v, error %v", name, e, again)
		}
	}
	d, err := authz.New(failing, clock).Authorize(t.Context(), authz.Request{})
	if err != nil || d.Code != authz.MissingKey {
		t.Errorf("no secret, store down: %v, %v; want that the store is not needed", d.Code, err)
	}
}

func TestCodes(t *testing.T) {
	want := []string{"UNAVAILABLE", "MISSING_KEY", "NOT_FOUND", "DISABLED", "EXPIRED", "FORBIDDEN", "INSUFFICIENT_PERMISSIONS", "RATE_LIMITED", "VALID"}
	codes := authz.Codes()
	if len(codes) != len(want) {
		t.Fatalf("%d codes, want %d", len(codes), len(want))
	}
	for i, c := range codes {
		if c.String() != want[i] || c.Allowed() != (want[i] == "VALID") {
			t.Errorf("code %d is %s, allowed %t", i, c, c.Allowed())
		}
	}
	if c := authz.Code(200); c.Allowed() || c.String() != "UNAVAILABLE" {
		t.Errorf("a code that is none: %s, allowed %t", c, c.Allowed())
	}
}

// For random keys and requests, Explain decides as Authorize does, and the first check that fails is the
// one that decided: those before it passed, and those after it did not run.
func TestExplainAgrees(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	addrs := []string{"", "10.0.0.1", "203.0.113.9", "::ffff:10.0.0.1", "2001:db8::1", "fe80::1%eth0"}
	seen := map[authz.Code]int{}
	for range 5000 {
		keys := keyMap{}
		keys.add("a", nil, func(k *keystore.Key) {
			k.Enabled = r.IntN(5) > 0
			k.Whitelist = []keystore.Whitelist{keystore.Anywhere(), {}, storetest.Whitelist("10.0.0.0/8", "2001:db8::/32")}[r.IntN(3)]
			if r.IntN(2) == 0 {
				k.Expires = now.Add(time.Duration(r.IntN(5) - 2))
			}
			if r.IntN(8) == 0 {
				k.Broken = errors.New("cannot be read")
			}
		})
		secret := storetest.SecretOf("a")
		request := authz.Request{
			Secret:     []keystore.Secret{secret, secret, secret, secret, "", "other", secret + ",", keystore.Secret(strings.Repeat("s", 513))}[r.IntN(8)],
			ClientAddr: parse(addrs[r.IntN(len(addrs))]),
		}
		a := authz.New(keys, clock)
		want, err := a.Authorize(t.Context(), request)
		got, steps, explained := a.Explain(t.Context(), request)
		if err != nil || explained != nil || got != want {
			t.Fatalf("Authorize: %+v, %v; Explain: %+v, %v", want, err, got, explained)
		}
		seen[want.Code]++
		decided := false
		for _, s := range steps {
			if decided && (s.Ran || s.Holds || s.Detail != "") || !decided && (!s.Ran || s.Detail == "") {
				t.Fatalf("%v: a step out of order: %+v", want.Code, steps)
			}
			if s.Ran && !s.Holds {
				decided = true
				if s.Code != want.Code {
					t.Fatalf("decided by %v, but the code is %v", s.Code, want.Code)
				}
			}
			if request.Secret != "" && strings.Contains(s.Detail, string(request.Secret)) {
				t.Fatalf("the secret is in %q", s.Detail)
			}
		}
		if decided == want.Code.Allowed() {
			t.Fatalf("%v, but decided %t", want.Code, decided)
		}
	}
	for _, c := range []authz.Code{authz.MissingKey, authz.NotFound, authz.Disabled, authz.Expired, authz.Forbidden, authz.Valid} {
		if seen[c] == 0 {
			t.Errorf("no request was %v: the test says nothing of it", c)
		}
	}
}

func TestExplainDetails(t *testing.T) {
	keys := keyMap{}
	keys.add("key_a", []string{"10.0.0.0/8", "192.0.2.7"}, func(k *keystore.Key) { k.Name, k.Expires = "Acme", now })
	for addr, want := range map[string]string{
		"10.1.2.3":        "10.1.2.3 is in 10.0.0.0/8",
		"::ffff:10.1.2.3": "10.1.2.3 is in 10.0.0.0/8",
		"192.0.2.7":       "192.0.2.7 is in 192.0.2.7",
		"203.0.113.9":     "203.0.113.9 is in none of the key's 2 ranges",
		"":                "the key has a whitelist, and the client address could not be determined",
	} {
		_, steps, err := authz.New(keys, clock).Explain(t.Context(), authz.Request{Secret: storetest.SecretOf("key_a"), ClientAddr: parse(addr)})
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%s; %s; %s", steps[1].Detail, steps[3].Detail, steps[4].Detail)
		if want := "the secret belongs to key_a (Acme); the key expires at 2027-01-31T12:00:00Z; " + want; got != want {
			t.Errorf("%q:\ngot  %s\nwant %s", addr, got, want)
		}
	}
}

func benchmarkStores(tb testing.TB) map[string]keystore.Store {
	k := storetest.NewKey("key_a", "192.168.1.100", "10.0.0.0/8", "2001:db8::/32")
	cached, err := cache.New(storetest.NewMemory(k), cache.DefaultConfig())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(cached.Close)
	return map[string]keystore.Store{"map": keyMap{k.Hash: k}, "cached": cached}
}

func TestAuthorizeAllocatesNothing(t *testing.T) {
	for name, store := range benchmarkStores(t) {
		a := authz.New(store, time.Now)
		request := authz.Request{Secret: storetest.SecretOf("key_a"), ClientAddr: parse("10.0.0.1")}
		ctx := t.Context()
		// With the race detector, the pool sometimes drops an object.
		if n := testing.AllocsPerRun(1000, func() { a.Authorize(ctx, request) }); n >= 1 {
			t.Errorf("%s: %v allocations a decision, want none", name, n)
		}
	}
}

func BenchmarkAuthorize(b *testing.B) {
	for name, store := range benchmarkStores(b) {
		for outcome, request := range map[string]authz.Request{
			"allow":  {Secret: storetest.SecretOf("key_a"), ClientAddr: parse("10.0.0.1")},
			"refuse": {Secret: storetest.SecretOf("key_a"), ClientAddr: parse("203.0.113.9")},
		} {
			a := authz.New(store, time.Now)
			ctx := b.Context()
			b.Run(name+"/"+outcome, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					a.Authorize(ctx, request)
				}
			})
			b.Run(name+"/"+outcome+"/parallel", func(b *testing.B) {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						a.Authorize(ctx, request)
					}
				})
			})
		}
	}
}
