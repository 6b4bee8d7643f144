package authz_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"extauthz/authz"
	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/permission"
	"extauthz/ratelimit"
	"extauthz/ratelimit/memory"
)

// A meter counts the calls of a limiter, and fails if fail is set.
type meter struct {
	ratelimit.Limiter
	takes, looks int
	fail         error
}

func newMeter() *meter { return &meter{Limiter: memory.New(clock)} }

func (m *meter) Take(ctx context.Context, s ratelimit.Subject, c []ratelimit.Charge) (ratelimit.Result, error) {
	if m.takes++; m.fail != nil {
		return ratelimit.Result{}, m.fail
	}
	return m.Limiter.Take(ctx, s, c)
}

func (m *meter) Look(ctx context.Context, s ratelimit.Subject, c []ratelimit.Charge) (ratelimit.Result, error) {
	if m.looks++; m.fail != nil {
		return ratelimit.Result{}, m.fail
	}
	return m.Limiter.Look(ctx, s, c)
}

func from(id string, change func(*authz.Request)) authz.Request {
	r := authz.Request{Secret: storetest.SecretOf(id), ClientAddr: parse("192.0.2.1")}
	if change != nil {
		change(&r)
	}
	return r
}

func asking(id, query string) authz.Request {
	return from(id, func(r *authz.Request) { r.Permissions = query })
}

func costing(id, costs string) authz.Request {
	return from(id, func(r *authz.Request) { r.Ratelimits = costs })
}

func TestPermissions(t *testing.T) {
	keys := keyMap{}
	keys.add("key_none", nil, nil)
	keys.add("key_reader", nil, func(k *keystore.Key) { k.Permissions = []string{"documents.read"} })
	keys.add("key_editor", nil, func(k *keystore.Key) { k.Roles = []string{"editor", "undefined"} })
	a := authz.New(keys, clock, authz.WithRoles(permission.Roles{"editor": {"documents.read", "documents.write"}}))
	for _, c := range []struct {
		id, query string
		want      authz.Code
	}{
		{"key_none", "", authz.Valid},
		{"key_none", "documents.read", authz.InsufficientPermissions},
		{"key_reader", "documents.read", authz.Valid},
		{"key_reader", "documents.read AND documents.write", authz.InsufficientPermissions},
		{"key_reader", "documents.read and (documents.write or admin)", authz.InsufficientPermissions},
		{"key_editor", "documents.read AND (documents.write OR admin)", authz.Valid},
		{"key_editor", "undefined", authz.InsufficientPermissions},
		{"key_gone", "documents.read AND", authz.NotFound},
	} {
		d, err := a.Authorize(t.Context(), asking(c.id, c.query))
		if d.Code != c.want || err != nil {
			t.Errorf("%s asked for %q: %s, %v; want %s", c.id, c.query, d.Code, err, c.want)
		}
	}
	r := from("key_editor", func(r *authz.Request) { r.RouteErr = errors.New("a backslash") })
	if d, err := a.Authorize(t.Context(), r); d.Code != authz.InsufficientPermissions || err != nil {
		t.Errorf("no route: %s, %v", d.Code, err)
	}
}

// A requirement that cannot be parsed refuses as Unavailable, and is reported once.
func TestBadTexts(t *testing.T) {
	keys := keyMap{}
	keys.add("key_a", nil, func(k *keystore.Key) { k.Permissions = []string{"a"} })
	var reported []string
	a := authz.New(keys, clock, authz.WithBadRequirement(func(err error) { reported = append(reported, err.Error()) }))
	for range 3 {
		for _, r := range []authz.Request{asking("key_a", "a AND"), asking("key_a", "a b"), costing("key_a", "x=-1")} {
			if d, err := a.Authorize(t.Context(), r); d.Code != authz.Unavailable || err == nil {
				t.Errorf("%+v: %s, %v; want UNAVAILABLE", r, d.Code, err)
			}
		}
	}
	if len(reported) != 3 || !strings.Contains(reported[0], `the route's permissions "a AND": column 3`) || !strings.Contains(reported[2], "the route's ratelimits") {
		t.Errorf("reported %q", reported)
	}
}

func TestLimits(t *testing.T) {
	keys := keyMap{}
	limited := func(owner string) func(*keystore.Key) {
		return func(k *keystore.Key) {
			k.ExternalID = owner
			k.Ratelimits = []keystore.Ratelimit{
				{Name: "requests", Limit: 3, Duration: time.Minute},
				{Name: "exports", Limit: 1, Duration: time.Hour, OnDemand: true},
			}
		}
	}
	keys.add("key_plain", nil, limited(""))
	keys.add("key_own", nil, limited("acme"))
	keys.add("key_shared", nil, func(k *keystore.Key) { k.ExternalID = "acme" })
	keys.add("key_free", nil, nil)
	owners := map[string][]keystore.Ratelimit{"acme": {{Name: "requests", Limit: 1, Duration: time.Minute}, {Name: "all", Limit: 4, Duration: time.Minute}}}

	names := func(d authz.Decision) (names []string) {
		if d.Limits != nil {
			for _, l := range d.Limits.Limits {
				names = append(names, l.Name)
			}
		}
		return names
	}
	a := authz.New(keys, clock, authz.WithLimits(authz.Limits{Limiter: newMeter(), Owners: owners}))
	for i, c := range []struct {
		id, costs string
		want      authz.Code
		limits    string
	}{
		{"key_free", "", authz.Valid, ""},
		{"key_free", "requests=5", authz.Valid, ""}, // of another kind of key
		{"key_plain", "", authz.Valid, "requests"},
		{"key_plain", "exports=1", authz.Valid, "requests exports"},
		{"key_plain", "exports=1", authz.RateLimited, "requests exports"},
		{"key_plain", "requests=2", authz.RateLimited, "requests"},
		{"key_plain", "requests=0, exports=0", authz.Valid, "requests exports"},
		{"key_plain", "", authz.Valid, "requests"},
		{"key_plain", "", authz.RateLimited, "requests"},
		// The key's own limit replaces the shared one.
		{"key_own", "requests=3", authz.Valid, "requests all"},
		{"key_shared", "", authz.Valid, "requests all"},
		{"key_shared", "", authz.RateLimited, "requests all"},
		{"key_shared", "requests=0, all=2", authz.Valid, "requests all"},
		{"key_shared", "requests=0, all=1", authz.RateLimited, "requests all"},
	} {
		d, err := a.Authorize(t.Context(), costing(c.id, c.costs))
		if d.Code != c.want || err != nil || strings.Join(names(d), " ") != c.limits {
			t.Errorf("%d: %s for %q: %s under %v, %v; want %s under %s", i, c.id, c.costs, d.Code, names(d), err, c.want, c.limits)
		}
	}
	// Without a limiter, a key with limits is refused.
	d, err := authz.New(keys, clock).Authorize(t.Context(), costing("key_plain", ""))
	if d.Code != authz.Unavailable || err == nil {
		t.Errorf("without a limiter: %s, %v", d.Code, err)
	}
}

func TestLimiterOutOfReach(t *testing.T) {
	keys := keyMap{}
	keys.add("key_a", nil, func(k *keystore.Key) {
		k.Ratelimits = []keystore.Ratelimit{{Name: "requests", Limit: 1, Duration: time.Hour}}
	})
	for refuse, want := range map[bool]authz.Code{false: authz.Valid, true: authz.Unavailable} {
		m := newMeter()
		var failures []bool
		a := authz.New(keys, clock, authz.WithLimits(authz.Limits{Limiter: m, RefuseOnError: refuse, Failed: func(err error, first bool) {
			if !errors.Is(err, m.fail) {
				t.Errorf("reported %v", err)
			}
			failures = append(failures, first)
		}}))
		ask := func(want authz.Code) {
			t.Helper()
			if d, err := a.Authorize(t.Context(), from("key_a", nil)); d.Code != want || (err != nil) != (want == authz.Unavailable) {
				t.Errorf("refuse %t: %s, %v; want %s", refuse, d.Code, err, want)
			}
		}
		ask(authz.Valid)
		m.fail = errors.New("down")
		ask(want)
		ask(want)
		if _, steps, _ := a.Explain(t.Context(), from("key_a", nil)); !strings.Contains(steps[6].Detail, "down") {
			t.Errorf("explained as %q", steps[6].Detail)
		}
		m.fail = nil
		ask(authz.RateLimited)
		m.fail = errors.New("down again")
		ask(want)
		if !slices.Equal(failures, []bool{true, false, true}) {
			t.Errorf("refuse %t: reported %v", refuse, failures)
		}
	}
}

func TestExplainSpendsNothing(t *testing.T) {
	keys := keyMap{}
	keys.add("key_a", nil, func(k *keystore.Key) {
		k.Permissions, k.Roles = []string{"documents.read"}, []string{"gone"}
		k.Ratelimits = []keystore.Ratelimit{{Name: "requests", Limit: 2, Duration: time.Hour}}
	})
	m := newMeter()
	a := authz.New(keys, clock, authz.WithLimits(authz.Limits{Limiter: m}))
	explain := func(r authz.Request, want authz.Code, row int, says string) {
		t.Helper()
		d, steps, err := a.Explain(t.Context(), r)
		if d.Code != want || err != nil || len(steps) != 7 || !strings.Contains(steps[row].Detail, says) {
			t.Errorf("%s, %v, %+v; want %s: …%s…", d.Code, err, steps, want, says)
		}
	}
	for range 3 {
		explain(asking("key_a", "documents.read"), authz.Valid, 6, "requests: cost 1, 2 of 2 in 1h0m0s left")
	}
	explain(asking("key_a", "documents.read"), authz.Valid, 5, "has what the route requires: documents.read")
	explain(asking("key_a", "documents.read and x or y"), authz.InsufficientPermissions, 5, "does not have x, y, and its role gone is not defined")
	explain(costing("key_a", "requests=3"), authz.RateLimited, 6, "room in 1h0m0s")
	if m.takes != 0 {
		t.Errorf("%d takes", m.takes)
	}
	if d, err := a.Authorize(t.Context(), costing("key_a", "requests=2")); d.Code != authz.Valid || err != nil {
		t.Errorf("%s, %v", d.Code, err)
	}
}

// Whichever rows fail, the first of them decides, and no later one spends anything.
func TestOrder(t *testing.T) {
	for which := range 1 << 7 { // every combination of rows
		var fails [8]bool // by row
		for row := 1; row < len(fails); row++ {
			fails[row] = which>>(row-1)&1 == 1
		}
		keys := keyMap{}
		var list []string
		if fails[5] {
			list = []string{"198.51.100.0/24"}
		}
		keys.add("key_a", list, func(k *keystore.Key) {
			k.Enabled = !fails[3]
			if fails[4] {
				k.Expires = now.Add(-time.Second)
			}
			k.Permissions = []string{"read"}
			k.Ratelimits = []keystore.Ratelimit{{Name: "requests", Limit: 1, Duration: time.Hour}}
		})
		r := from("key_a", func(r *authz.Request) { r.Permissions, r.Ratelimits = "read", "requests=1" })
		if fails[2] {
			r.Secret = "unknown"
		}
		if fails[1] {
			r.Secret = ""
		}
		if fails[6] {
			r.Permissions = "write"
		}
		if fails[7] {
			r.Ratelimits = "requests=2"
		}
		m, store := newMeter(), &counter{Store: keys}
		d, err := authz.New(store, clock, authz.WithLimits(authz.Limits{Limiter: m})).Authorize(t.Context(), r)

		want, asked, takes := authz.Valid, 1, 1
		if row := slices.Index(fails[:], true); row > 0 {
			want = authz.Codes()[row]
			asked, takes = min(row-1, 1), max(row-6, 0)
		}
		if d.Code != want || err != nil || store.asked != asked || m.takes != takes {
			t.Fatalf("rows that fail %v: %s, %v, %d lookups, %d takes; want %s, %d, %d", fails, d.Code, err, store.asked, m.takes, want, asked, takes)
		}
		left, _ := m.Limiter.Look(t.Context(), ratelimit.Subject{Key: "key_a"}, []ratelimit.Charge{{Name: "requests", Limit: 1, Duration: time.Hour, Cost: 1}})
		if left.Limited() != (want == authz.Valid) {
			t.Fatalf("rows that fail %v: spent %t", fails, left.Limited())
		}
	}
}

func TestPermissionsAllocateNothing(t *testing.T) {
	keys := keyMap{}
	keys.add("key_a", []string{"192.0.2.0/24"}, func(k *keystore.Key) { k.Roles = []string{"reader"} })
	a := authz.New(keys, clock, authz.WithRoles(permission.Roles{"reader": {"read"}}))
	r := from("key_a", func(r *authz.Request) { r.Permissions, r.Ratelimits = "read or write", "exports=1" })
	if n := testing.AllocsPerRun(100, func() {
		if d, err := a.Authorize(t.Context(), r); d.Code != authz.Valid || err != nil {
			t.Fatal(d.Code, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
