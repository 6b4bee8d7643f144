package route_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"extauthz/route"
)

// table returns a table of rules written as "host method path" (- for none, commas between several). Each
// requires a permission with the rule's text as its name.
func table(t testing.TB, lines ...string) *route.Table {
	t.Helper()
	var rules []route.Rule
	for _, line := range lines {
		f := strings.Fields(line)
		list := func(s string) []string {
			if s == "-" {
				return nil
			}
			return strings.Split(s, ",")
		}
		rules = append(rules, route.Rule{Hosts: list(f[0]), Methods: list(f[1]), PathPrefix: strings.TrimPrefix(f[2], "-"), Permissions: line})
	}
	table, errs := route.New(rules)
	if errs != nil {
		t.Fatal(errs)
	}
	return table
}

func TestMatchTakesTheMostSpecific(t *testing.T) {
	all := []string{
		"- - -",
		"- - /admin",
		"- GET /admin",
		"- - /admin/users/",
		"*.example.com - -",
		"*.api.example.com - /v1",
		"api.example.com,10.0.0.1,2001:db8::1 - -",
		"api.example.com POST /v1",
		"api.example.com HEAD /v1",
		"api.example.com GET /v1",
	}
	cases := []struct{ host, method, path, want string }{
		{"other.org", "GET", "/", "- - -"},
		{"other.org", "GET", "/adm", "- - -"},
		{"other.org", "GET", "/administrator", "- - -"},
		{"other.org", "GET", "/admin.json", "- - -"},
		{"other.org", "GET", "/Admin", "- - -"},
		{"other.org", "POST", "/admin", "- - /admin"},
		{"other.org", "POST", "/admin/", "- - /admin"},
		{"other.org", "POST", "/admin/x/y?z", "- - /admin"},
		{"other.org", "POST", "/admin?/x", "- - /admin"},
		{"other.org", "GET", "/admin", "- GET /admin"},
		{"other.org", "get", "/admin", "- GET /admin"},
		{"other.org", "HEAD", "/admin", "- GET /admin"},
		{"other.org", "", "/admin", "- - /admin"},
		{"other.org", "GET", "/admin/users", "- - /admin/users/"},
		{"other.org", "GET", "/admin/users/7", "- - /admin/users/"},
		{"other.org", "GET", "/admin/usersx", "- GET /admin"},
		{"", "GET", "/", "- - -"},
		// A host has precedence over a path.
		{"www.example.com", "GET", "/admin", "*.example.com - -"},
		{"a.b.example.com", "GET", "/admin", "*.example.com - -"},
		{"example.com", "GET", "/", "- - -"},
		{".example.com", "GET", "/", "- - -"},
		{"badexample.com", "GET", "/", "- - -"},
		{"x.api.example.com", "GET", "/v1/x", "*.api.example.com - /v1"},
		{"x.api.example.com", "GET", "/v2", "*.example.com - -"},
		{"api.example.com", "GET", "/", "api.example.com,10.0.0.1,2001:db8::1 - -"},
		{"api.example.com", "POST", "/v1", "api.example.com POST /v1"},
		{"api.example.com", "HEAD", "/v1", "api.example.com HEAD /v1"},
		{"api.example.com", "PUT", "/v1", "api.example.com,10.0.0.1,2001:db8::1 - -"},
		// All spellings of a host are the same host.
		{"API.Example.COM", "POST", "/v1", "api.example.com POST /v1"},
		{"api.example.com:8443", "POST", "/v1", "api.example.com POST /v1"},
		{"api.example.com:", "POST", "/v1", "api.example.com POST /v1"},
		{"api.example.com.", "POST", "/v1", "api.example.com POST /v1"},
		{"api.example.com.:443", "POST", "/v1", "api.example.com POST /v1"},
		{"10.0.0.1:80", "GET", "/", "api.example.com,10.0.0.1,2001:db8::1 - -"},
		{"[2001:DB8:0::1]:80", "GET", "/", "api.example.com,10.0.0.1,2001:db8::1 - -"},
		{"[2001:db8::1]", "GET", "/", "api.example.com,10.0.0.1,2001:db8::1 - -"},
		{"[2001:db8::2]", "GET", "/", "- - -"},
	}
	forward := table(t, all...)
	slices.Reverse(all)
	backward := table(t, all...)
	for _, c := range cases {
		for order, table := range map[string]*route.Table{"forward": forward, "backward": backward} {
			rule, err := table.Match(c.host, c.method, c.path)
			if err != nil || rule == nil || rule.Permissions != c.want {
				t.Errorf("%s: %s %q %q: %+v, %v; want %q", order, c.method, c.host, c.path, rule, err, c.want)
			}
		}
	}
}

func TestNoRule(t *testing.T) {
	var zero route.Table
	for name, table := range map[string]*route.Table{
		"nil": nil, "zero": &zero, "other": table(t, "api.example.com - -", "- POST -", "- - /admin"),
	} {
		if rule, err := table.Match("other.org", "GET", "/x"); rule != nil || err != nil {
			t.Errorf("%s: %+v, %v; want no rule", name, rule, err)
		}
	}
}

// A request is only refused for a part on which the selection of a rule depends.
func TestAmbiguousOnlyWhereItMatters(t *testing.T) {
	const bad = "/x%2fadmin"
	cases := []struct {
		name         string
		table        *route.Table
		host, method string
		refused      bool
	}{
		{"no rules", table(t), "a.com", "GET", false},
		{"no rule has a path", table(t, "- - -", "- GET -", "a.com - -"), "b.com", "GET", false},
		{"a rule has a path", table(t, "- - /admin"), "a.com", "GET", true},
		{"it stands behind one that has none", table(t, "a.com - -", "- - /admin"), "a.com", "GET", false},
		{"it is for another host", table(t, "a.com - /admin", "- - -"), "b.com", "GET", false},
		{"it is for another method", table(t, "- POST /admin", "- - -"), "a.com", "GET", false},
		{"it is for this method", table(t, "- POST /admin", "- - -"), "a.com", "POST", true},
		{"every path is no path", table(t, "- - /"), "a.com", "GET", false},
		{"the host is bad and matters", table(t, "a.com - -"), "a.com@b.com", "GET", true},
		{"the host is bad", table(t, "- GET -"), "a.com@b.com", "GET", false},
	}
	for _, c := range cases {
		rule, err := c.table.Match(c.host, c.method, bad)
		if errors.Is(err, route.ErrAmbiguous) != c.refused || c.refused && rule != nil {
			t.Errorf("%s: %+v, %v; refused: want %t", c.name, rule, err, c.refused)
		}
	}
}

func TestAmbiguousHosts(t *testing.T) {
	table := table(t, "admin.example.com - -")
	for _, host := range []string{
		"user@admin.example.com", "admin.example.com@evil.org", "a.org:80@admin.example.com", "admin.example.com/x",
		"admin.example.com:80:80", "admin.example.com:x", "admin.example.com a", "a.org,admin.example.com", "admin%2eexample.com",
		"admin.example.com\x00", "admin.example.com\\a", "[::1", "[::1]x", "[admin.example.com]", "[fe80::1%25eth0]", "ad\u2024min", "\xff",
	} {
		if rule, err := table.Match(host, "GET", "/"); !errors.Is(err, route.ErrAmbiguous) {
			t.Errorf("host %q: %+v, %v; want it refused", host, rule, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	cases := []struct {
		rule        route.Rule
		field, says string
	}{
		{route.Rule{Hosts: []string{""}}, "hosts", "empty host"},
		{route.Rule{Hosts: []string{"*"}}, "hosts", "omit hosts"},
		{route.Rule{Hosts: []string{"a.*.com"}}, "hosts", "write *.example.com"},
		{route.Rule{Hosts: []string{"*example.com"}}, "hosts", "write *.example.com"},
		{route.Rule{Hosts: []string{"a.com", "https://b.com/"}}, "hosts", "without a scheme"},
		{route.Rule{Hosts: []string{"a.com:443"}}, "hosts", `write "a.com"`},
		{route.Rule{Hosts: []string{"*.a.com:443"}}, "hosts", `write "*.a.com"`},
		{route.Rule{Hosts: []string{"a b"}}, "hosts", "not a host"},
		{route.Rule{Hosts: []string{"a.com", "A.com."}}, "hosts", "an earlier rule"},
		{route.Rule{PathPrefix: "admin"}, "path_prefix", `write "/admin"`},
		{route.Rule{PathPrefix: "/admin/*"}, "path_prefix", "write only the path"},
		{route.Rule{PathPrefix: "/a?b"}, "path_prefix", "write only the path"},
		{route.Rule{PathPrefix: "/a%2fb"}, "path_prefix", "an escaped slash"},
		{route.Rule{PathPrefix: "/a;b"}, "path_prefix", "a semicolon"},
		{route.Rule{Methods: []string{"get"}}, "methods", "in upper case"},
		{route.Rule{Methods: []string{""}}, "methods", "in upper case"},
		{route.Rule{Methods: []string{"GET", "GET"}}, "methods", "repeated"},
		{route.Rule{Methods: []string{"POST", "GET"}, PathPrefix: "/taken/"}, "path_prefix", "an earlier rule"},
	}
	for _, c := range cases {
		taken := route.Rule{PathPrefix: "/taken", Methods: []string{"GET"}}
		table, errs := route.New([]route.Rule{taken, c.rule})
		if table != nil || len(errs) != 1 || errs[0].Index != 1 || errs[0].Field != c.field || !strings.Contains(errs[0].Error(), c.says) {
			t.Errorf("%+v: %v; want one error of %s: …%s…", c.rule, errs, c.field, c.says)
		}
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	table := table(t, "- - /admin", "- GET /users/@me", "*.example.com POST /x")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := table.Match("a.very.long.name.indeed.www.example.com:8443", "GET", "/users/@me/documents?x=%2f"); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	table := table(b, "- - /admin", "- GET /users/@me", "*.example.com POST /x")
	for name, path := range map[string]string{
		"clean": "/users/@me/documents", "escaped": "/users/%40me/documents", "long": strings.Repeat("/%41/..", 1000),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := table.Match("www.example.com", "GET", path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
