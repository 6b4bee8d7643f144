package route_test

import (
	"errors"
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode"

	"extauthz/route"
)

// blind returns a table of case-insensitive rules for these prefixes. Each requires a permission with the
// name of its prefix.
func blind(t testing.TB, prefixes ...string) *route.Table {
	t.Helper()
	var rules []route.Rule
	for _, p := range prefixes {
		rules = append(rules, route.Rule{PathPrefix: p, IgnoreCase: true, Permissions: p})
	}
	table, errs := route.New(rules)
	if errs != nil {
		t.Fatal(errs)
	}
	return table
}

func TestIgnoreCase(t *testing.T) {
	const none, disputed = "", "disputed"
	table := blind(t, "/admin", "/Admin/Public", "/café", "/a%20b", "/class", "/Σίσυφος")
	for path, want := range map[string]string{
		"/admin":           "/admin",
		"/Admin/users":     "/admin",
		"/ADMIN?x":         "/admin",
		"/%41dmin":         "/admin",
		"/%61%44MIN/":      "/admin",
		"/x/../ADMIN":      "/admin",
		"/administrator":   none,
		"/ADMIN.json":      none,
		"/admin/public/x":  "/Admin/Public",
		"/ADMIN/PUBLIC":    "/Admin/Public",
		"/ADMIN/PUBLICITY": "/admin",
		"/CAF%C3%89/x":     "/café",
		"/caf%c3%a9":       "/café",
		"/CAFÉ":            "/café",
		"/cafe":            none,
		"/A%20B":           "/a%20b",
		"/a%2520b":         "refused",
		"/%CF%83%CE%AF%CF%83%CF%85%CF%86%CE%BF%CF%82/x": "/Σίσυφος",
		"/ΣΊΣΥΦΟΣ":         "/Σίσυφος",
		"/claß":            disputed, // "CLASS" for servers that fold it so
		"/cla%C3%9F":       disputed,
		"/cla\u017f\u017f": disputed, // long s, which is S in capitals
		"/adm\u0131n":      disputed, // dotless i, which is I in capitals
		"/ADM\u0130N/x":    disputed,
		"/stra\u00dfe":     none, // no rule depends on it
		"/\u212aelvin":     none,
		"/%ff/admin":       "refused",
	} {
		rule, err := table.Match("", "GET", path)
		switch {
		case want == disputed:
			if !errors.Is(err, route.ErrAmbiguous) || !strings.Contains(err.Error(), "ignores case") {
				t.Errorf("%s: %+v, %v; want it refused for its case", path, rule, err)
			}
		case want == "refused":
			if !errors.Is(err, route.ErrAmbiguous) {
				t.Errorf("%s: %+v, %v; want it refused", path, rule, err)
			}
		case want == none:
			if rule != nil || err != nil {
				t.Errorf("%s: %+v, %v; want no rule", path, rule, err)
			}
		case err != nil || rule == nil || rule.Permissions != want:
			t.Errorf("%s: %+v, %v; want the rule for %s", path, rule, err, want)
		}
	}
}

// A rule without ignore_case is compared case-sensitively, even beside one with it.
func TestIgnoreCaseOfOneRule(t *testing.T) {
	table, errs := route.New([]route.Rule{
		{PathPrefix: "/a", Permissions: "exact"},
		{PathPrefix: "/B", IgnoreCase: true, Permissions: "blind"},
		{PathPrefix: "/b/ⱥⱥⱥ/x", Permissions: "below"},
		{PathPrefix: "/b", Methods: []string{"PUT"}, Permissions: "put"},
	})
	if errs != nil {
		t.Fatal(errs)
	}
	for request, want := range map[string]string{
		"GET /a": "exact", "GET /A": "", "GET /b": "blind", "GET /B/x": "blind", "GET /b/ⱥⱥⱥ/x": "below", "GET /b/ȺȺȺ/x": "blind", "PUT /b": "put", "PUT /B": "blind",
	} {
		method, path, _ := strings.Cut(request, " ")
		rule, err := table.Match("", method, path)
		if got := rule; err != nil || got == nil && want != "" || got != nil && got.Permissions != want {
			t.Errorf("%s: %+v, %v; want %q", request, rule, err, want)
		}
	}
}

// A "!" in a path that was cleaned may be any byte, so that no rule can be selected by it.
func TestMatchCleaned(t *testing.T) {
	tables := map[string]*route.Table{"rule": table(t, "- - /admin"), "blind": blind(t, "/admin"), "method": table(t, "- POST /admin"), "host": table(t, "a.example - -")}
	for path, refused := range map[string]bool{
		"/adm!in": true, "/!admin": true, "/a/!!!!/admin": true, "/x!!admin": true, "/admin!": true, "/a/../!": true,
		"/admin?a=!": false, "/adm%21in": false, "/": false,
	} {
		for name, table := range tables {
			rule, err := table.MatchCleaned("a.example", "GET", path)
			if got, want := errors.Is(err, route.ErrAmbiguous), refused && (name == "rule" || name == "blind"); got != want {
				t.Errorf("%s, %s: %+v, %v; refused: want %t", name, path, rule, err, want)
			}
			if _, err := table.Match("a.example", "GET", path); err != nil {
				t.Errorf("%s, %s: %v of a path that was not cleaned", name, path, err)
			}
		}
	}
}

// FuzzIgnoreCase checks that no path avoids a rule if any of several ways to ignore case puts it
// below the rule's prefix, and that a rule only matches a path that one of them puts there.
func FuzzIgnoreCase(f *testing.F) {
	for _, s := range []string{"/Admin", "/ADMIN/x", "/caf%C3%89", "/claß", "/adm\u0131n", "/ﬁle", "/FILE/y", "/k/\u212a", "/ς", "/a%20B", "/µ", "/ǅ"} {
		f.Add(s, "/admin/")
		f.Add(s, s)
		f.Add("/file", s)
	}
	ways := []func(string) string{
		strings.ToLower, strings.ToUpper, strings.ToTitle,
		func(s string) string { return strings.ToLower(strings.ToUpper(s)) },
		func(s string) string { return strings.ReplaceAll(strings.ToUpper(s), "ß", "SS") },
		func(s string) string {
			return strings.Map(func(r rune) rune {
				for n := unicode.SimpleFold(r); n != r; n = unicode.SimpleFold(n) {
					r = min(r, n)
				}
				return r
			}, s)
		},
	}
	f.Fuzz(func(t *testing.T, request, prefix string) {
		table, errs := route.New([]route.Rule{{PathPrefix: prefix, IgnoreCase: true}})
		wanted, err := route.NormalizePath(prefix)
		if errs != nil || err != nil || wanted == "/" {
			return // no rule that depends on the path
		}
		rule, err := table.Match("", "GET", request)
		normal, normalErr := route.NormalizePath(request)
		if normalErr != nil {
			if rule != nil || err == nil {
				t.Fatalf("%q is ambiguous, and gets %+v, %v", request, rule, err)
			}
			return
		}
		clean := func(s string) string {
			s, err := url.PathUnescape(s)
			if err != nil {
				t.Fatal(err)
			}
			return path.Clean(s)
		}
		under := false
		for _, way := range ways {
			under = under || strings.HasPrefix(way(clean(normal))+"/", strings.TrimSuffix(way(clean(wanted)), "/")+"/")
		}
		if rule == nil && err == nil && under {
			t.Errorf("%q passes the rule for %q", request, prefix)
		}
		if rule != nil && !under {
			t.Errorf("%q is not below %q", request, prefix)
		}
	})
}
