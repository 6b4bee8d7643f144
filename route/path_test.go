package route_test

import (
	"errors"
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"extauthz/route"
)

// refused is the result for a path on which servers disagree.
const refused = ""

// Each line is a request that bypassed, or could have bypassed, a rule for /admin, with its source. It must
// be normalized to the path of the rule or be refused.
var bypasses = []struct{ path, want, source string }{
	{"/info/../admin", "/admin", "CVE-2019-9901 (Envoy): dot segments reach RBAC and ext_authz as they are"},
	{"/info/./../admin", "/admin", "CVE-2019-9901"},
	{"/../admin", "/admin", "RFC 3986 section 5.2.4: the root has no parent"},
	{"/admin/.", "/admin/", "RFC 3986 section 5.2.4"},
	{"/admin/x/..", "/admin/", "RFC 3986 section 5.2.4"},
	{"//admin", "/admin", "CVE-2021-31920 (Istio): repeated slashes"},
	{"/info//../../admin", refused, "the order of merging slashes and removing dot segments: Envoy removes dot segments first, nginx merges as it goes"},
	{"/a//../admin", refused, "the same"},
	{"//admin/secret", "/admin/secret", "CVE-2026-26205 (opa-envoy-plugin): // read as an authority"},
	{"/info%2f..%2fadmin", refused, "CVE-2021-29492 (Envoy): %2F is a slash to some upstreams"},
	{"/info%2F../admin", refused, "CVE-2021-29492"},
	{"/info%5c..%5cadmin", refused, "CVE-2021-29492: and so is %5C"},
	{`/info\..\admin`, refused, "CVE-2007-0450 (Tomcat): a backslash parts segments"},
	{"/%2e%2e/admin", refused, "CVE-2021-41773 (Apache httpd): escaped dot segments"},
	{"/info/.%2e/admin", refused, "CVE-2021-41773"},
	{"/%2E/admin", refused, "CVE-2021-41773"},
	{"/info/%%32%65%%32%65/admin", refused, "CVE-2021-42013 (Apache httpd): escapes of escapes"},
	{"/info/%252e%252e/admin", refused, "CVE-2021-42013: decoded twice"},
	{"/info/%25%32%65./admin", refused, "CVE-2020-11989 (Apache Shiro): decoded twice"},
	{"/info%25%32%66admin", refused, "CVE-2020-11989"},
	{"/info/..;/admin", refused, "CVE-2020-1957 (Apache Shiro), CVE-2020-5902 (BIG-IP): path parameters in a dot segment"},
	{"/info/..;foo=bar/admin", refused, "CVE-2026-73551 (Envoy): dot segments with parameters"},
	{"/;/admin", refused, "CVE-2020-11989: a path parameter on an empty segment"},
	{"/admin;x=1/users", refused, "CVE-2026-73511 (Envoy): path parameters that Tomcat strips"},
	{"/admin/%3bpage", refused, "CVE-2020-13933 (Apache Shiro): an escaped semicolon"},
	{"/admin#foo", refused, "CVE-2021-32779 (Envoy), CVE-2021-39156 (Istio): a fragment in the path"},
	{"/info/#/../admin", refused, "CVE-2021-32779"},
	{"/admin\x00", refused, "CVE-2019-9900 (Envoy): NUL"},
	{"/admin%00", refused, "CVE-2019-9900: the same, escaped"},
	{"/admin%0a", refused, "a rule's end of line and a server's"},
	{"/admin\t", refused, "white space that is trimmed"},
	{"/admin ", refused, "white space that is trimmed"},
	{"/%c0%ae%c0%ae/admin", refused, "CVE-2008-2938 (Tomcat): overlong UTF-8"},
	{"/info%c0%afadmin", refused, "MS00-078 (IIS): overlong UTF-8"},
	{"/info/\xc0\xae./admin", refused, "CVE-2008-2938: not escaped"},
	{"/%e0%80%ae/admin", refused, "CVE-2008-2938: in three bytes"},
	{"/%u002e%u002e/admin", refused, "the %u escapes of IIS, which are none"},
	{"/admi%6e", "/admin", "RFC 3986 section 6.2.2.2: escapes of unreserved characters"},
	{"/%61%64%6d%69%6E/x", "/admin/x", "RFC 3986 section 6.2.2.2"},
	{"/admin%", refused, "RFC 3986 section 2.1: an invalid escape"},
	{"/admin%2", refused, "RFC 3986 section 2.1"},
	{"/admin%zz", refused, "RFC 3986 section 2.1"},
	{"admin", refused, "RFC 9112 section 3.2.1: not an absolute path"},
	{"", refused, "RFC 9112 section 3.2.3: CONNECT has none"},
	{"*", refused, "RFC 9112 section 3.2.4: the asterisk form"},
	{"http://example.com/admin", refused, "RFC 9112 section 3.2.2: the absolute form"},
	{"example.com:443", refused, "RFC 9112 section 3.2.3: the authority form"},
	{"?/admin", refused, "no path at all"},
}

func TestBypasses(t *testing.T) {
	table := table(t, "- - /admin")
	for _, c := range bypasses {
		t.Run(c.path, func(t *testing.T) {
			got, err := route.NormalizePath(c.path)
			if got != c.want || errors.Is(err, route.ErrAmbiguous) != (c.want == refused) {
				t.Errorf("NormalizePath = %q, %v; want %q (%s)", got, err, c.want, c.source)
			}
			rule, err := table.Match("example.com", "GET", c.path)
			if rule == nil && err == nil {
				t.Errorf("slips past the rule (%s)", c.source)
			}
		})
	}
}

// A rule for a path with reserved characters cannot be bypassed by escaping them.
func TestEscapedReservedCharacters(t *testing.T) {
	table := table(t, "- - /users/@me", "- - /a(b)", "- - /café", `- - /q"`)
	for _, path := range []string{
		"/users/%40me", "/users/@me/", "/a%28b%29", "/a(b%29", "/caf%C3%A9", "/caf%c3%a9/x", "/café", "/caf\xc3%A9", "/q%22", `/q"`,
	} {
		if rule, err := table.Match("", "GET", path); rule == nil || err != nil {
			t.Errorf("%q: %+v, %v; want its rule", path, rule, err)
		}
	}
}

func TestNormalizePath(t *testing.T) {
	for path, want := range map[string]string{
		"/":                   "/",
		"/?x=/../%2f":         "/",
		"/a/b":                "/a/b",
		"/a/b/":               "/a/b/",
		"/a//b///c/":          "/a/b/c/",
		"///":                 "/",
		"/a/./b/../c":         "/a/c",
		"/a/b/../..":          "/",
		"/a/b/../../../c":     "/c",
		"/.a/..b/c./d..":      "/.a/..b/c./d..",
		"/...":                "/...",
		"/a%2eb":              "/a.b",
		"/%7Euser":            "/~user",
		"/C%23":               "/C%23",
		"/what%3f":            "/what%3F",
		"/a%20b":              "/a%20b",
		"/100%25":             "/100%25",
		"/50%25off":           "/50%25off",
		"/a%3cb<":             "/a%3Cb%3C",
		"/caf%c3%a9/é":        "/caf%C3%A9/%C3%A9",
		"/%f0%9f%98%80":       "/%F0%9F%98%80",
		"/!$&'()*+,=:@-_~":    "/!$&'()*+,=:@-_~",
		"/%21%24%26%27%28%2a": "/!$&'(*",
	} {
		if got, err := route.NormalizePath(path); got != want || err != nil {
			t.Errorf("NormalizePath(%q) = %q, %v; want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"/%c3/%a9", "/\xc3x\xa9", "/%ff", "/a;b", "/a/%2e", "/a/%2e./b"} {
		if got, err := route.NormalizePath(path); !errors.Is(err, route.ErrAmbiguous) {
			t.Errorf("NormalizePath(%q) = %q, %v; want it refused", path, got, err)
		}
	}
}

// FuzzNormalizePath compares the result with the standard library's decoding and cleaning, step by step.
// NormalizePath needs one pass.
func FuzzNormalizePath(f *testing.F) {
	for _, c := range bypasses {
		f.Add(c.path)
	}
	f.Add("/a/b/../c%20d/./é%25?x")
	f.Fuzz(func(t *testing.T, p string) {
		got, err := route.NormalizePath(p)
		if err != nil {
			if !errors.Is(err, route.ErrAmbiguous) || got != "" {
				t.Fatalf("NormalizePath(%q) = %q, %v", p, got, err)
			}
			return
		}
		if again, err := route.NormalizePath(got); err != nil || again != got {
			t.Fatalf("%q comes to %q, which comes to %q, %v", p, got, again, err)
		}
		raw, _, _ := strings.Cut(p, "?")
		decoded, err := url.PathUnescape(raw)
		if err != nil || !utf8.ValidString(decoded) {
			t.Fatalf("NormalizePath(%q) = %q, but it decodes as %q, %v", p, got, decoded, err)
		}
		if strings.ContainsAny(decoded, "\\;\x00") || strings.Count(decoded, "/") != strings.Count(raw, "/") {
			t.Fatalf("NormalizePath(%q) = %q, but it decodes as %q", p, got, decoded)
		}
		// Decoding it again does not change its meaning: no server finds another slash or dot.
		if twice, err := url.PathUnescape(decoded); err == nil && twice != decoded {
			t.Fatalf("NormalizePath(%q) = %q, but it decodes twice, as %q", p, got, twice)
		}
		want := path.Clean(decoded)
		plain, err := url.PathUnescape(got)
		if err != nil || path.Clean(plain) != want || strings.Contains(got, "//") {
			t.Fatalf("NormalizePath(%q) = %q, which decodes as %q, %v; want %q", p, got, plain, err, want)
		}
	})
}

func TestNormalizePathIsLinear(t *testing.T) {
	// A second pass for each of 100,000 segments would exceed the test's deadline.
	long := strings.Repeat("/a", 100_000) + strings.Repeat("/..", 100_000)
	if got, err := route.NormalizePath(long); got != "/" || err != nil {
		t.Errorf("%.20q, %v", got, err)
	}
}
