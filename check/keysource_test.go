package check

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"extauthz/authz"
	"extauthz/keystore"
)

// TestKeySources checks which secret is found, and that none is forwarded to the upstream.
func TestKeySources(t *testing.T) {
	apiKey, bearer := Header("X-API-Key"), Scheme("Authorization", "Bearer")
	query, cookie := Query("api_key"), Cookie("key")
	all := []KeySource{apiKey, bearer, query, cookie}
	const absent, nobodys = "MISSING_KEY", "NOT_FOUND" // any other want is the secret of the key that is allowed
	tests := []struct {
		name    string
		sources []KeySource
		ask     ask
		want    string
		upset   string // what must be changed or removed, comma-separated: a header's name, ?parameter, or name=value
	}{
		{"header", all[:1], send("x-api-key", "alpha"), "alpha", "x-api-key"},
		{"header in another case", all[:1], send("X-Api-KEY", "alpha"), "alpha", "x-api-key"},
		{"header with _", all[:1], send("x_api_key", "alpha"), absent, ""},
		{"header, empty", all[:1], send("x-api-key", ""), absent, ""},
		{"header, twice", all[:1], send("x-api-key", "alpha", "x-api-key", "alpha"), nobodys, ""},
		{"header, twice, one empty", all[:1], send("x-api-key", "alpha", "x-api-key", ""), nobodys, ""},
		{"header, a list", all[:1], send("x-api-key", "alpha,beta"), nobodys, ""},
		{"header, spaces", all[:1], send("x-api-key", " alpha"), nobodys, ""},
		{"header, too long", all[:1], send("x-api-key", strings.Repeat("a", keystore.MaxSecretLen+1)), nobodys, ""},
		{"header, not UTF-8", all[:1], send("x-api-key", "alpha\xff"), nobodys, ""},
		{"header, not seen", all, send("authorization", "Bearer alpha"), "alpha", "x-api-key,authorization"},

		{"scheme", all, send("authorization", "Bearer alpha"), "alpha", "x-api-key,authorization"},
		{"scheme in another case", all, send("authorization", "bEARER alpha"), "alpha", "x-api-key,authorization"},
		{"scheme, more spaces", all, send("authorization", "Bearer    alpha"), "alpha", "x-api-key,authorization"},
		{"scheme, no space", all, send("authorization", "Beareralpha"), absent, ""},
		{"scheme, tab", all, send("authorization", "Bearer\talpha"), absent, ""},
		{"scheme alone", all, send("authorization", "Bearer"), absent, ""},
		{"scheme and a space", all, send("authorization", "Bearer "), absent, ""},
		{"another scheme", all, send("authorization", "Basic YTpi"), absent, ""},
		{"no scheme", all, send("authorization", "alpha"), absent, ""},
		{"scheme, in two lines", all, send("authorization", "Bearer alpha", "authorization", "Bearer alpha"), nobodys, ""},
		{"scheme, beside another", all, send("authorization", "Basic YTpi", "authorization", "Bearer alpha"), nobodys, ""},
		{"scheme, two words", all, send("authorization", "Bearer alpha beta"), nobodys, ""},
		{"two schemes, first", []KeySource{bearer, Scheme("authorization", "ApiKey")}, send("authorization", "Bearer alpha"), "alpha", "authorization"},
		{"two schemes, second", []KeySource{bearer, Scheme("authorization", "ApiKey")}, send("authorization", "apikey alpha"), "alpha", "authorization"},
		{"other scheme stays", all, send("x-api-key", "alpha", "authorization", "Basic YTpi"), "alpha", "x-api-key"},
		{"other scheme with Bearer inside stays", all, send("x-api-key", "alpha", "authorization", `Basic YTpi Bearer`), "alpha", "x-api-key"},
		{"scheme with a tab is removed", all, send("x-api-key", "alpha", "authorization", "Bearer\tbeta"), "alpha", "x-api-key,authorization"},

		{"query", all, send().to("/p?api_key=alpha"), "alpha", "x-api-key,?api_key"},
		{"query among others", all, send().to("/p?a=1&api_key=alpha&b"), "alpha", "x-api-key,?api_key"},
		{"query, value encoded", all, send().to("/p?api_key=%61lph%61"), "alpha", "x-api-key,?api_key"},
		{"query, plus is a space", all, send().to("/p?api_key=two+words"), "two words", "x-api-key,?api_key"},
		{"query, name encoded", all, send().to("/p?api%5fkey=alpha"), "alpha", "x-api-key,?api%5fkey"},
		{"query, value with = in it", all, send().to("/p?api_key=a=b"), "a=b", "x-api-key,?api_key"},
		{"query, value with ? in it", all, send().to("/p?api_key=a?b"), "a?b", "x-api-key,?api_key"},
		{"query, another case", all, send().to("/p?API_KEY=alpha"), absent, ""},
		{"query, empty", all, send().to("/p?api_key="), absent, ""},
		{"query, no value", all, send().to("/p?api_key"), absent, ""},
		{"query, twice", all, send().to("/p?api_key=alpha&api_key=alpha"), nobodys, ""},
		{"query, twice, one empty", all, send().to("/p?api_key=&api_key=alpha"), nobodys, ""},
		{"query, two spellings", all, send().to("/p?api_key=alpha&%61pi_key=alpha"), nobodys, ""},
		{"query, semicolon is no separator", all, send().to("/p?a=1;api_key=alpha"), absent, ""},
		{"query, semicolon in the value", all, send().to("/p?api_key=alpha;b=1"), nobodys, ""},
		{"query, malformed escape in the value", all, send().to("/p?api_key=alpha%"), nobodys, ""},
		{"query, malformed escape, twice", all, send().to("/p?api_key=%zz&api_key=%zz"), nobodys, ""},
		{"query, malformed escape in a name", all, send().to("/p?api%5_key=alpha"), absent, ""},
		{"query, comma", all, send().to("/p?api_key=alpha%2Cbeta"), nobodys, ""},
		{"query, NUL", all, send().to("/p?api_key=alpha%00"), nobodys, ""},
		{"query, before a fragment", all, send().to("/p?api_key=alpha#x"), "alpha", "x-api-key,?api_key"},
		{"query in the fragment", all, send().to("/x#?api_key=alpha"), absent, ""},
		{"query, and again in the fragment", all, send().to("/x?api_key=alpha#&api_key=beta?api_key=beta"), "alpha", "x-api-key,?api_key"},
		{"query in the path", all, send().to("/p&api_key=alpha"), absent, ""},
		{"query after a second ?", all, send().to("/p?x?api_key=alpha"), absent, ""},
		{"query, beside a header", all, send("x-api-key", "alpha").to("/p?%61pi_key=beta&api_key=&api_key=beta"), "alpha", "x-api-key,?api_key,?%61pi_key"},

		{"cookie", all, send("cookie", "key=alpha"), "alpha", "x-api-key,cookie"},
		{"cookie among others", all, send("cookie", "a=1; key=alpha; b=2"), "alpha", "x-api-key,cookie=a=1; b=2"},
		{"cookie, no spaces", all, send("cookie", "a=1;key=alpha;b=2"), "alpha", "x-api-key,cookie=a=1; b=2"},
		{"cookie, spaces", all, send("cookie", " key = alpha ;"), "alpha", "x-api-key,cookie"},
		{"cookie, quoted", all, send("cookie", `key="alpha"`), "alpha", "x-api-key,cookie"},
		{"cookie, value with =", all, send("cookie", "key=a=b"), "a=b", "x-api-key,cookie"},
		{"cookie, another case", all, send("cookie", "KEY=alpha"), absent, ""},
		{"cookie, longer name", all, send("cookie", "xkey=alpha; keyx=alpha"), absent, ""},
		{"cookie, empty", all, send("cookie", "key="), absent, ""},
		{"cookie, no value", all, send("cookie", "key"), absent, ""},
		{"cookie, twice", all, send("cookie", "key=alpha; key=alpha"), nobodys, ""},
		{"cookie, twice, one empty", all, send("cookie", "key=; key=alpha"), nobodys, ""},
		{"cookie, two lines", all, send("cookie", "key=alpha", "cookie", "key=alpha"), nobodys, ""},
		{"cookie, two lines, first", all, send("cookie", "key=alpha", "cookie", "a=1"), "alpha", "x-api-key,cookie=a=1"},
		{"cookie, two lines, last", all, send("cookie", "a=1", "cookie", "key=alpha"), "alpha", "x-api-key,cookie=a=1"},
		{"cookie, two lines of several", all, send("cookie", "a=1; b=2", "cookie", "c=3; key=alpha; d=4"), "alpha", "x-api-key,cookie=a=1; b=2; c=3; d=4"},
		{"cookie, three lines", all, send("cookie", "a=1", "cookie", "key=alpha", "cookie", "c = 3"), "alpha", "x-api-key,cookie=a=1; c = 3"},
		{"cookie, two lines, nothing else", all, send("cookie", "key=alpha", "cookie", "key=alpha; a=1"), nobodys, ""},
		{"cookie, two lines, the other without a name", all, send("cookie", "key=alpha", "cookie", "a"), nobodys, ""},
		{"cookie, a comma in the value", all, send("cookie", "key=alpha,beta"), nobodys, ""},
		{"cookie, a comma and nothing", all, send("cookie", "key=alpha,"), nobodys, ""},
		{"cookie, beside a header", all, send("x-api-key", "alpha", "cookie", "a=1,key=beta; b=2; key"), "alpha", "x-api-key,cookie=a=1; b=2"},
		{"cookies of others stay as they are", all, send("x-api-key", "alpha", "cookie", "a=1;b=2;;"), "alpha", "x-api-key"},
		{"two cookies", []KeySource{Cookie("k1"), Cookie("k2")}, send("cookie", "k1=alpha; k2=beta; c=1"), "alpha", "cookie=c=1"},

		{"first source wins", all, send("x-api-key", "alpha", "authorization", "Bearer beta", "cookie", "key=beta").to("/?api_key=beta"), "alpha", "x-api-key,authorization,?api_key,cookie"},
		{"first source wins, also if it is nobody's", all, send("x-api-key", "wrong", "authorization", "Bearer alpha"), nobodys, ""},
		{"an empty one is passed over", all, send("x-api-key", "", "authorization", "Bearer alpha"), "alpha", "x-api-key,authorization"},
		{"another order", []KeySource{query, apiKey}, send("x-api-key", "beta").to("/?api_key=alpha"), "alpha", "x-api-key,?api_key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{KeySources: tt.sources, Authorizer: authorizer(keyFor("alpha"), keyFor("a=b"), keyFor("a?b"), keyFor("two words"))}
			want := "VALID"
			if tt.want == absent || tt.want == nobodys {
				want = tt.want
			}
			o := check(t, checker(t, cfg), tt.ask)
			if code := codeOf(t, o); code != want {
				t.Fatalf("got %s, want %s", code, want)
			}
			if want != "VALID" {
				return
			}
			if id := headerOf(o.SetHeaders, keyIDHeader); id != "key_"+tt.want {
				t.Errorf("the key is %s", id)
			}
			wantUpset := strings.Split(tt.upset, ",")
			slices.Sort(wantUpset)
			if got := upset(o); !slices.Equal(got, wantUpset) {
				t.Errorf("changed upstream: %q, want %q", got, wantUpset)
			}
		})
	}
}

// TestQueryIsCutOut: the parameter is cut out of the path, and no other byte changes.
func TestQueryIsCutOut(t *testing.T) {
	for path, want := range map[string]string{
		"/x?b=2&flag&a=1&a=0&api_key=S&sig=x%2By": "/x?b=2&flag&a=1&a=0&sig=x%2By",
		"/x?api_key=S":                   "/x",
		"/x?api_key=S#f":                 "/x#f",
		"/x?a&api_key=S#f?api_key=S":     "/x?a#f?api_key=S",
		"/x?api_key=S&b=%zz&&c==;":       "/x?b=%zz&&c==;",
		"/x?api_key=S&":                  "/x?",
		"/x?&api_key=S":                  "/x?",
		"/x?a=1&api%5fkey=S&api_key=T&b": "/x?a=1&b",
		"/a%2Fb/../c?api_key=S":          "/a%2Fb/../c",
		"/x?b?api_key=S&api_key=S?&c=?":  "/x?b?api_key=S&c=?",
		"/x?api_key":                     "/x",
		"/x?api_keys=S":                  "",
		"/x?":                            "",
		"/x#?api_key=S":                  "",
		"":                               "",
	} {
		o := new(Outcome)
		Query("api_key").strip(&Attributes{Path: path}, o)
		if o.Path != want || (want == "") != (len(o.RemoveQuery) == 0) {
			t.Errorf("%s became %q (%q), want %q", path, o.Path, o.RemoveQuery, want)
		}
	}
	o := new(Outcome)
	for _, q := range []KeySource{Query("k1"), Query("k2"), Query("k3")} {
		q.strip(&Attributes{Path: "/x?k1=a&b=1&k2=b"}, o)
	}
	if o.Path != "/x?b=1" || !slices.Equal(o.RemoveQuery, []string{"k1", "k2"}) {
		t.Errorf("two sources left %q (%q)", o.Path, o.RemoveQuery)
	}
}

// TestCookieIsCutOut: a comma that joins two headers separates cookies; any other is kept.
func TestCookieIsCutOut(t *testing.T) {
	for header, want := range map[string]string{
		"a=1,2; key=alpha; b=x,y": "a=1,2; b=x,y",
		"a=1,b=2; key=alpha":      "a=1; b=2",
		"key=alpha;a=1;;b=2":      "a=1; b=2",
		"key=alpha":               "",
		"a=,key=alpha,b":          "a=",
		"a=1,,key=alpha":          "a=1,",
	} {
		o := new(Outcome)
		Cookie("key").strip(&Attributes{Headers: []Field{{"cookie", header}}}, o)
		if got := headerOf(o.SetHeaders, "cookie"); got != want || slices.Contains(o.RemoveHeaders, "cookie") != (want == "") {
			t.Errorf("%s became %q, removed %q; want %q", header, got, o.RemoveHeaders, want)
		}
	}
}

// TestPrefix: a value without the prefix is not looked up, and is forwarded unchanged.
func TestPrefix(t *testing.T) {
	bearer := WithPrefix(Scheme("Authorization", "Bearer"), "sk_")
	sources := []KeySource{bearer, WithPrefix(Header("x-token"), "sk_"), WithPrefix(Query("token"), "sk_"), WithPrefix(Cookie("token"), "sk_"), Header("x-api-key")}
	const secret = "sk_alpha"
	for _, tt := range []struct {
		name string
		ask  ask
		code string
		kept string // what is changed or removed with forward_key
		gone string // the same without it
	}{
		{"a JWT alone", send("authorization", "Bearer ey.x.y"), "MISSING_KEY", "", ""},
		{"the secret", send("authorization", "Bearer sk_alpha"), "VALID", "x-api-key", "authorization,x-api-key"},
		{"the secret beside a JWT", send("x-api-key", secret, "authorization", "Bearer ey.x.y"), "VALID", "", "x-api-key"},
		{"the secret in the second place", send("x-token", secret, "authorization", "Bearer ey.x.y"), "VALID", "x-api-key", "x-api-key,x-token"},
		{"another's values everywhere", send("x-api-key", secret, "authorization", "Bearer ey", "x-token", "t", "cookie", "token=t").to("/?token=t"), "VALID", "", "x-api-key"},
		{"ours everywhere", send("x-api-key", secret, "authorization", "Bearer sk_alpha", "x-token", "sk_b", "cookie", "token=sk_c; a=1").to("/?token=sk_d"), "VALID", "?token,cookie=a=1,x-api-key,x-token", "?token,authorization,cookie=a=1,x-api-key,x-token"},
		{"another case", send("x-token", "SK_alpha"), "MISSING_KEY", "", ""},
		{"the prefix inside", send("x-token", "a sk_alpha"), "MISSING_KEY", "", ""},
		{"the prefix alone", send("x-token", "sk_"), "NOT_FOUND", "", ""},
		{"twice", send("x-token", secret, "x-token", secret), "NOT_FOUND", "", ""},
		{"repeated beside a JWT", send("authorization", "Bearer ey", "authorization", "Bearer sk_alpha"), "NOT_FOUND", "", ""},
		{"two JWTs", send("x-api-key", secret, "authorization", "Bearer ey", "authorization", "Bearer ez"), "VALID", "", "x-api-key"},
		{"third of three, query", send("x-api-key", secret).to("/?token=a&token=b&token=sk_alpha"), "NOT_FOUND", "", ""},
		{"third of three, cookie", send("x-api-key", secret, "cookie", "token=a; token=b; token=sk_alpha"), "NOT_FOUND", "", ""},
		{"quoted cookie", send("cookie", `token="sk_alpha"`), "VALID", "x-api-key", "cookie,x-api-key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, forward := range []bool{false, true} {
				var looked []keystore.Secret
				inner := authorizer(keyFor(secret))
				c := checker(t, Config{ForwardKey: forward, KeySources: sources, Authorizer: decides(func(ctx context.Context, r authz.Request) (authz.Decision, error) {
					looked = append(looked, r.Secret)
					return inner.Authorize(ctx, r)
				})})
				o := check(t, c, tt.ask)
				want := tt.gone
				if forward {
					want = tt.kept
				}
				if code := codeOf(t, o); code != tt.code || code == "VALID" && strings.Join(upset(o), ",") != want {
					t.Errorf("forward_key %v: %s, changed upstream: %q, want %s, %q", forward, code, upset(o), tt.code, want)
				}
				for _, s := range looked {
					if s != "" && !strings.Contains(string(s), "sk_") {
						t.Errorf("%q was looked up", string(s))
					}
				}
			}
		})
	}
}

// upset lists what the outcome changes in the request, except for its identity headers.
func upset(o *Outcome) []string {
	var list []string
	for _, h := range o.SetHeaders {
		if !isIdentity(h.Name) {
			list = append(list, h.Name+"="+h.Value)
		}
	}
	for _, name := range o.RemoveHeaders {
		if !isIdentity(name) {
			list = append(list, name)
		}
	}
	for _, name := range o.RemoveQuery {
		list = append(list, "?"+name)
	}
	slices.Sort(list)
	return list
}

// TestForwardKey: only the secret that was checked is forwarded.
func TestForwardKey(t *testing.T) {
	sources := []KeySource{
		Scheme("Authorization", "Bearer"),
		Scheme("authorization", "ApiKey"),
		Header("X-API-Key"),
		Query("api_key"),
		Cookie("key"),
	}
	c := checker(t, Config{ForwardKey: true, KeySources: sources, Authorizer: authorizer(keyFor("alpha"))})
	for _, tt := range []struct {
		name  string
		ask   ask
		upset []string
	}{
		{"header", send("x-api-key", "alpha"), nil},
		{"header, others too", send("x-api-key", "alpha", "cookie", "key=x").to("/?api_key=x"), []string{"?api_key", "cookie"}},
		{"scheme", send("authorization", "apikey alpha"), []string{"x-api-key"}},
		{"query", send().to("/?api_key=alpha"), []string{"x-api-key"}},
		{"query, others too", send("cookie", "a=1; key=x").to("/?api_key=alpha"), []string{"cookie=a=1", "x-api-key"}},
		{"cookie", send("cookie", "a=1; key=alpha"), []string{"x-api-key"}},
	} {
		o := check(t, c, tt.ask)
		if code := codeOf(t, o); code != "VALID" || !slices.Equal(upset(o), tt.upset) {
			t.Errorf("%s: %s, changed upstream: %q, want %q", tt.name, code, upset(o), tt.upset)
		}
	}
}

func TestChallenge(t *testing.T) {
	for want, sources := range map[string][]KeySource{
		`ApiKey realm="extauthz"`:                          {Header("x-api-key"), Query("k"), Cookie("k")},
		`Bearer realm="extauthz", ApiKey realm="extauthz"`: {Scheme("authorization", "Bearer"), Header("x-api-key"), Scheme("x", "bearer")},
	} {
		if got := challenge(sources); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// FuzzQuery compares the parsed query with net/url, if that accepts the whole query.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"k=v", "a=1&k=v", "k=a&k=b", "%6b=v", "k=%zz", "k=a+b", "=&&k", "k==", "?k=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		got := Query("k").find(&Attributes{Path: "/p?" + query})
		values, err := url.ParseQuery(query)
		if err != nil || strings.ContainsAny(query, ";#") {
			return
		}
		if want := strings.Join(values["k"], ","); got != want {
			t.Errorf("%q: got %q, want %q", query, got, want)
		}
	})
}

// FuzzStrip checks that nothing is found in a source after it is stripped, and that the other parameters
// of a query are those that net/url finds in the original.
func FuzzStrip(f *testing.F) {
	for _, seed := range []string{"k=v", "a=1&k=v&b", "a=1,k=v", "k=v;a=1, b=2", "%6b=v#k=v", "k", "a,k =v,", "?k=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o := new(Outcome)
		a := &Attributes{Path: "/p?" + s, Headers: []Field{{"cookie", s}}}
		Query("k").strip(a, o)
		Cookie("k").strip(a, o)
		left := &Attributes{Path: a.Path, Headers: o.SetHeaders}
		if o.Path != "" {
			left.Path = o.Path
		}
		if !slices.Contains(o.RemoveHeaders, "cookie") && len(o.SetHeaders) == 0 {
			left.Headers = a.Headers
		}
		if q, c := Query("k").find(left), Cookie("k").find(left); q != "" || c != "" {
			t.Errorf("%q: left are %+v, with the parameter %q and the cookie %q", s, left, q, c)
		}
		before, err := url.Parse(a.Path)
		after, err2 := url.Parse(left.Path)
		if err != nil || err2 != nil {
			return
		}
		want, err := url.ParseQuery(before.RawQuery)
		if err != nil || strings.Contains(s, ";") {
			return
		}
		delete(want, "k")
		if got, err := url.ParseQuery(after.RawQuery); err != nil || got.Encode() != want.Encode() || after.EscapedPath() != before.EscapedPath() || after.Fragment != before.Fragment {
			t.Errorf("%q became %q (%v)", a.Path, left.Path, err)
		}
	})
}
