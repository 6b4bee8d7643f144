package check

import (
	"context"
	"errors"
	"strings"
	"testing"

	"extauthz/authz"
	"extauthz/route"
)

// routes are the rules of a server for one host.
func routes(t testing.TB) *route.Table {
	t.Helper()
	table, errs := route.New([]route.Rule{
		{PathPrefix: "/admin", Permissions: "admin", Ratelimits: "requests=5"},
		{PathPrefix: "/exports", Methods: []string{"POST"}, Ratelimits: "exports"},
	})
	if errs != nil {
		t.Fatal(errs)
	}
	return table
}

// TestRequirements: a context extension that is sent, even an empty one, replaces the rule's field, and
// does not affect the other field.
func TestRequirements(t *testing.T) {
	tests := []struct {
		name                    string
		ask                     ask
		permissions, ratelimits string
		ambiguous               bool
	}{
		{"neither", send(), "", "", false},
		{"a rule", send().to("/admin/x?a=1"), "admin", "requests=5", false},
		{"a rule, by its normal path", send().to("/a/.././%61dmin//x"), "admin", "requests=5", false},
		{"another method", send().to("/exports"), "", "", false},
		{"extensions alone", send().with("permissions", "a OR b", "ratelimits", "x=1"), "a OR b", "x=1", false},
		{"extensions in the place of a rule", send().to("/admin").with("permissions", "a", "ratelimits", "x=1"), "a", "x=1", false},
		{"permissions in the place of a rule's", send().to("/admin").with("permissions", "a"), "a", "requests=5", false},
		{"ratelimits in the place of a rule's", send().to("/admin").with("ratelimits", "x"), "admin", "x", false},
		{"empty permissions ask for none", send().to("/admin").with("permissions", ""), "", "requests=5", false},
		{"empty ratelimits name none", send().to("/admin").with("ratelimits", ""), "admin", "", false},
		{"other extensions", send().to("/admin").with("Permissions", "a", "x", "y"), "admin", "requests=5", false},
		{"ambiguous", send().to("/public/..%2fadmin"), "", "", true},
		{"ambiguous, and half is said", send().to("/admin;x").with("permissions", "a"), "a", "", true},
		{"ambiguous, and no rule is needed", send().to("/admin;x").with("permissions", "a", "ratelimits", "x"), "a", "x", false},
	}
	var got authz.Request
	var seen Observation
	c := checker(t, Config{Routes: routes(t), Authorizer: decides(func(_ context.Context, r authz.Request) (authz.Decision, error) {
		got = r
		return authz.Decision{Code: authz.MissingKey}, nil
	}), Observe: func(_ context.Context, o *Observation) { seen = *o }})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check(t, c, tt.ask)
			if seen.Permissions != tt.permissions || seen.Ratelimits != tt.ratelimits {
				t.Errorf("observed %q, %q", seen.Permissions, seen.Ratelimits)
			}
			if got.Permissions != tt.permissions || got.Ratelimits != tt.ratelimits || errors.Is(got.RouteErr, route.ErrAmbiguous) != tt.ambiguous {
				t.Errorf("asks for %q, %q, %v", got.Permissions, got.Ratelimits, got.RouteErr)
			}
		})
	}
}

// TestUnknownExtensions: a misspelt one is reported once.
func TestUnknownExtensions(t *testing.T) {
	var reported []string
	c := checker(t, Config{Authorizer: authorizer(), UnknownExtension: func(name string) { reported = append(reported, name) }})
	for range 3 {
		check(t, c, send().with("permission", "admin", "ratelimits", "a"))
	}
	for i := range 2 * maxUnknownNames {
		check(t, c, send().with(strings.Repeat("x", i+1), ""))
	}
	if len(reported) != maxUnknownNames || reported[0] != "permission" {
		t.Errorf("reported %d names, first %q", len(reported), reported)
	}
}

// TestNoTable: without rules, paths are not examined.
func TestNoTable(t *testing.T) {
	c := checker(t, Config{Authorizer: authorizer(keyFor("secret"))})
	for _, path := range []string{"/a%2fb", "*", "", "/;", "/\\", "/%zz"} {
		if code := codeOf(t, check(t, c, send("x-api-key", "secret").to(path))); code != "VALID" {
			t.Errorf("%q: %s", path, code)
		}
	}
}

func TestPermissions(t *testing.T) {
	k := keyFor("secret")
	k.Permissions = []string{"documents.read"}
	c := checker(t, Config{Authorizer: authorizer(k), Routes: routes(t)})
	for _, tt := range []struct {
		ask  ask
		code string
	}{
		{send("x-api-key", "secret").to("/documents"), "VALID"},
		{send("x-api-key", "secret").to("/admin"), "INSUFFICIENT_PERMISSIONS"},
		{send("x-api-key", "secret").to("/x/..%2fadmin"), "INSUFFICIENT_PERMISSIONS"},
		{send("x-api-key", "secret").to("/admin").with("permissions", "documents.read"), "VALID"},
		{send("x-api-key", "secret").with("permissions", "documents.read and admin"), "INSUFFICIENT_PERMISSIONS"},
		{send("x-api-key", "secret").with("permissions", "documents.read and"), "UNAVAILABLE"},
		{send("x-api-key", "secret").with("ratelimits", "=1"), "UNAVAILABLE"},
		{send("x-api-key", "nobody's").to("/x/..%2fadmin"), "NOT_FOUND"},
	} {
		if code := codeOf(t, check(t, c, tt.ask)); code != tt.code {
			t.Errorf("%s %v: %s, want %s", tt.ask.path, tt.ask.context, code, tt.code)
		}
	}
}
