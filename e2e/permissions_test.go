package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"extauthz/e2e/harness"
	"extauthz/keystore"
	"extauthz/polltest"
)

const (
	reader keystore.Secret = "acme_reader"
	editor keystore.Secret = "acme_editor"
	admin  keystore.Secret = "acme_admin"
)

const roles = "roles: {editor: [documents.read, documents.write]}\n"

var people = "keys:\n" +
	record("key_reader", reader, "permissions: [documents.read]") +
	record("key_editor", editor, "roles: [editor]") +
	record("key_admin", admin, "permissions: [documents.read, admin]")

// A route sets its requirements in its context extensions.
func TestPermissionsOfARoute(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, listen func(testing.TB) string, raw bool) {
		upstream := harness.StartUpstream(t)
		server := harness.StartExtauthz(t, harness.Settings{Keys: people, Config: roles, Listen: listen(t)})
		asks := func(extensions string) string {
			return gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, RawHeaders: raw, Extensions: extensions}.start(t).Addr("front")
		}
		front := asks(`{permissions: "documents.read and (documents.write OR admin)"}`)
		for secret, id := range map[keystore.Secret]string{editor: "key_editor", admin: "key_admin"} {
			if saw := send(t, front, call{header: headers("X-Api-Key", string(secret))}).upstreamSaw(t); !slices.Equal(saw.Headers["x-extauthz-key-id"], []string{id}) {
				t.Errorf("the upstream saw %v", saw.Headers)
			}
		}
		upstream.Forget()
		send(t, front, call{header: headers("X-Api-Key", string(reader))}).wantRefusal(t, 403, "INSUFFICIENT_PERMISSIONS", "key_reader")

		// A mistake of the operator refuses the request, and is logged once.
		front = asks(`{permissions: "admin AND"}`)
		for range 3 {
			send(t, front, call{header: headers("X-Api-Key", string(admin))}).wantRefusal(t, 503, "UNAVAILABLE", "")
		}
		if seen := upstream.Seen(); len(seen) > 0 {
			t.Errorf("a refused request reached the upstream: %+v", seen)
		}
		if n := logged(t, server, "the requirements of a route cannot be parsed"); n != 1 {
			t.Errorf("the mistake was logged %d times", n)
		}
		if n := counted(t, server, "extauthz_invalid_route_settings_total"); n != 1 {
			t.Errorf("the mistake was counted %d times", n)
		}
	})
}

// The configuration's rules cannot be bypassed by another spelling of a path or host. Envoy has its default
// settings, with which it normalizes nothing.
func TestRoutesOfTheConfiguration(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: people, Config: roles + `
routes:
  - {path_prefix: /admin, permissions: admin}
  - {hosts: [internal.example], permissions: admin}
  - {path_prefix: /documents, methods: [PUT], permissions: documents.write}
`})
	front := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr}.start(t).Addr("front")

	status := func(secret keystore.Secret, method, host, path string) int {
		t.Helper()
		return raw(t, front, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nX-Api-Key: %s\r\nConnection: close\r\n\r\n", method, path, host, string(secret)))
	}
	for _, path := range []string{"/", "/documents", "/administrator", "/admin.json", "/public/admin", "/?/admin", "/public/../documents"} {
		if got := status(reader, "GET", "api.example", path); got != 200 {
			t.Errorf("GET %s: %d, want 200", path, got)
		}
	}
	for _, path := range []string{"/admin", "/admin/", "/admin/users?a=b", "/%61dmin", "//admin", "/.//admin", "/a/../admin"} {
		if got := status(admin, "GET", "api.example", path); got != 200 && !strings.HasPrefix(path, "/.//") {
			t.Errorf("GET %s with the permission: %d, want 200", path, got)
		}
	}
	upstream.Forget()
	refused := func(method, host, path string) {
		t.Helper()
		// Envoy itself refuses some with 400.
		if got := status(reader, method, host, path); got != 403 && got != 400 {
			t.Errorf("%s %s%s: %d, want 403", method, host, path, got)
		}
	}
	for _, path := range []string{
		"/admin", "/admin/", "/admin?x", "/admin/users", "/admin#x", "/%61dmin", "/%61%64%6d%69%6e", "/ADMIN/../admin",
		"//admin", "///admin", "/./admin", "/a/../admin", "/a/b/../../admin/", "/admin//", "/a/%2e%2e/admin", "/a/.%2E/admin",
		"/a/..%2fadmin", "/a%2f..%2fadmin", "/%2fadmin", "/admin%2f", "/a%5c..%5cadmin", `/a\..\admin`, `/\admin`,
		"/admin;x", "/;/admin", "/a/..;/admin", "/admin%3bx", "/admin%00", "/admin%00.png", "/admin%", "/%zz/admin", "/%c0%afadmin",
		"/%ff/../admin", "/admin%0a", "/%2561dmin", "http://api.example/admin", "/..//admin", "/a//../admin",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "FOO"} {
			refused(method, "api.example", path)
		}
	}
	for _, host := range []string{"internal.example", "INTERNAL.example", "internal.example:80", "internal.example."} {
		refused("GET", host, "/documents")
	}
	refused("PUT", "api.example", "/documents/7")
	for _, seen := range upstream.Seen() {
		t.Errorf("a refused request reached the upstream: %s %s %s", seen.Method, seen.Host, seen.Path)
	}
}

// Each context extension overrides the same field of a rule.
func TestExtensionsBeforeRules(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: people, Config: "routes: [{permissions: admin}]\n"})
	for extensions, want := range map[string]int{
		"": 403, "{permission: documents.read}": 403, "{permissions: documents.read}": 200, `{permissions: ""}`: 200, "{ratelimits: requests}": 403,
	} {
		front := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, Extensions: extensions}.start(t).Addr("front")
		if r := send(t, front, call{header: headers("X-Api-Key", string(reader))}); r.status != want {
			t.Errorf("%s: %d %s, want %d", extensions, r.status, r.body, want)
		}
	}
	logged(t, server, "a route sends an unknown context extension")
}

// raw sends the bytes of a request unchanged and returns the response's status.
func raw(t testing.TB, addr, request string) int {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, polltest.Patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(polltest.Patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	defer response.Body.Close()
	return response.StatusCode
}
