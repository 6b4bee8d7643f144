package check

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"extauthz/authz"
	"extauthz/keystore"
	"extauthz/ratelimit/memory"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// An ask is one request as a caller sends it. Front ends pass repeated headers in one of two forms, which
// must not change the outcome.
type ask struct {
	peer    string // empty: a unix socket
	path    string
	headers []Field
	context []Field // the route's context extensions
}

// send is a GET of / from 192.0.2.1 with these headers: name, value, name, value …
func send(headers ...string) ask {
	return ask{peer: "192.0.2.1", path: "/", headers: fields(headers)}
}

func fields(list []string) (all []Field) {
	for i := 0; i < len(list); i += 2 {
		all = append(all, Field{list[i], list[i+1]})
	}
	return all
}

func (a ask) from(peer string) ask { a.peer = peer; return a }
func (a ask) to(path string) ask   { a.path = path; return a }

// with adds context extensions to the request: name, value, name, value …
func (a ask) with(extensions ...string) ask {
	a.context = append(slices.Clip(a.context), fields(extensions)...)
	return a
}

// forms yields the request's attributes with repeated headers joined, and separate.
func (a ask) forms(yield func(string, *Attributes) bool) {
	apart := Attributes{Peer: a.peer, Method: "GET", Path: clean(a.path), Host: "api.example", Scheme: "https", Extensions: a.context}
	joined := apart
	for _, h := range append([]Field{{":authority", "api.example"}, {":method", "GET"}, {":path", a.path}}, a.headers...) {
		h = Field{strings.ToLower(h.Name), clean(h.Value)}
		apart.Headers = append(apart.Headers, h)
		if i := slices.IndexFunc(joined.Headers, func(f Field) bool { return f.Name == h.Name }); i >= 0 {
			joined.Headers[i].Value += "," + h.Value
		} else {
			joined.Headers = append(joined.Headers, h)
		}
	}
	_ = yield("joined", &joined) && yield("apart", &apart)
}

// clean replaces bytes that are not UTF-8, as front ends do.
func clean(s string) string { return strings.ToValidUTF8(s, "!") }

// keys is a store.
type keys map[keystore.Hash]*keystore.Key

func (k keys) Lookup(_ context.Context, h keystore.Hash) (*keystore.Key, error) {
	if key := k[h]; key != nil {
		return key, nil
	}
	return nil, keystore.ErrNotFound
}

// keyFor returns the key with this secret; without ranges it may be used from anywhere.
func keyFor(secret string, ranges ...string) *keystore.Key {
	k := &keystore.Key{ID: "key_" + strings.Trim(secret, "_"), Hash: keystore.Secret(secret).Hash(), Enabled: true, Whitelist: keystore.Anywhere()}
	if len(ranges) > 0 {
		var prefixes []netip.Prefix
		for _, r := range ranges {
			prefixes = append(prefixes, prefix(r))
		}
		k.Whitelist = keystore.NewWhitelist(prefixes)
	}
	return k
}

func prefix(s string) netip.Prefix {
	p, err := keystore.ParseWhitelistEntry(s)
	if err != nil {
		panic(err)
	}
	return p
}

// authorizer returns an Authorizer for these keys, with their permissions and rate limits and a fixed clock.
func authorizer(all ...*keystore.Key) Authorizer {
	store := make(keys)
	for _, k := range all {
		store[k.Hash] = k
	}
	clock := func() time.Time { return now }
	return authz.New(store, clock, authz.WithLimits(authz.Limits{Limiter: memory.New(clock)}))
}

// decides is an Authorizer with a fixed decision.
type decides func(context.Context, authz.Request) (authz.Decision, error)

func (d decides) Authorize(ctx context.Context, r authz.Request) (authz.Decision, error) {
	return d(ctx, r)
}

// always returns an Authorizer that decides on the code, with a key if such decisions have one.
func always(code authz.Code) decides {
	d := authz.Decision{Code: code}
	if code != authz.MissingKey && code != authz.NotFound && code != authz.Unavailable {
		d.Key = &keystore.Key{ID: "key_acme_prod", Name: "Acme, production", ExternalID: "acme"}
	}
	return func(context.Context, authz.Request) (authz.Decision, error) { return d, nil }
}

func checker(t testing.TB, cfg Config) *Checker {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// check checks the request in both forms, compares the outcomes, and returns them.
func check(t *testing.T, c *Checker, a ask) *Outcome {
	t.Helper()
	var first *Outcome
	for form, attributes := range a.forms {
		o := new(Outcome)
		c.Check(t.Context(), attributes, o)
		if first == nil {
			first = o
		} else if !sameOutcome(o, first) {
			t.Fatalf("%s, the outcome differs:\ngot  %+v\nwant %+v", form, o, first)
		}
	}
	return first
}

// sameOutcome reports whether two outcomes are equivalent: headers to remove may be in any order and
// repeated.
func sameOutcome(a, b *Outcome) bool {
	removed := func(o *Outcome) []string { return slices.Compact(slices.Sorted(slices.Values(o.RemoveHeaders))) }
	return a.Allowed() == b.Allowed() && a.Status() == b.Status() && a.Metadata() == b.Metadata() && slices.Equal(a.SetHeaders, b.SetHeaders) &&
		slices.Equal(removed(a), removed(b)) && slices.Equal(a.RemoveQuery, b.RemoveQuery) && slices.Equal(a.ResponseHeaders, b.ResponseHeaders) &&
		string(a.AppendBody(nil)) == string(b.AppendBody(nil))
}

// codeOf returns the outcome's code, and checks that the rest of the outcome agrees with it.
func codeOf(t *testing.T, o *Outcome) string {
	t.Helper()
	code := o.Metadata()[0].Value
	if o.Allowed() != (code == "VALID" || o.DryRun) || o.Status() < 400 || o.IsError() != (code == "UNAVAILABLE" && !o.DryRun && !o.denial) {
		t.Fatalf("the outcome contradicts itself: %+v", o)
	}
	return code
}

func headerOf(list []Field, name string) string {
	for _, h := range list {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}
