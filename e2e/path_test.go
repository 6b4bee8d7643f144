package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"extauthz/e2e/harness"
	"extauthz/keystore"
	"extauthz/polltest"
)

// Rules that ignore case protect an upstream that ignores case.
func TestRulesThatIgnoreCase(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	for name, config := range map[string]string{
		"one rule": "routes: [{path_prefix: /admin, ignore_case: true, permissions: admin}]\n",
		"all":      "paths: {ignore_case: true}\nroutes: [{path_prefix: /Admin, permissions: admin}]\n",
	} {
		server := harness.StartExtauthz(t, harness.Settings{Keys: people, Config: roles + config})
		front := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr}.start(t).Addr("front")
		for path, want := range map[string]int{
			"/Admin/users": 403, "/ADMIN": 403, "/%41DMIN/x": 403, "/admin": 403, "/a/../aDmin": 403, "/adm%C4%B1n": 403,
			"/documents": 200, "/Administrator": 200,
		} {
			for secret, want := range map[keystore.Secret]int{reader: want, admin: map[bool]int{true: 200, false: want}[path != "/adm%C4%B1n"]} {
				request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: a.example\r\nX-Api-Key: %s\r\nConnection: close\r\n\r\n", path, string(secret))
				if got := raw(t, front, request); got != want {
					t.Errorf("%s: %s with %s: %d, want %d", name, path, secret.Hash(), got, want)
				}
			}
		}
	}
}

// Over HTTP/2, Envoy accepts any byte in a path, forwards it, and reports a "!" to extauthz for each
// that is not UTF-8. Some upstreams ignore such bytes, or decode them as slashes or dots.
func TestPathThatIsNotUTF8(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: people, Config: roles + "routes: [{path_prefix: /admin, permissions: admin}]\n"})
	anyPath := harness.StartExtauthz(t, harness.Settings{Keys: people})
	for _, encoded := range []bool{false, true} {
		front := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, RawHeaders: encoded}.start(t).Addr("front")
		for path, want := range map[string]int{
			"/adm\xffin": 403, "/\xc0\xaeadmin": 403, "/x\xc0\xafadmin": 403, "/admin\xff": 403, "/admin": 403,
			"/caf\xc3\xa9": 200, "/a%21b": 200, "/a?x=!": 200, "/a?x=\xff": 200,
			"/a!b": map[bool]int{false: 403, true: 200}[encoded], // only then is it known to be a real "!"
		} {
			upstream.Forget()
			if got := rawHTTP2(t, front, path, reader); got != want {
				t.Errorf("encode_raw_headers: %t: %q: %d, want %d", encoded, path, got, want)
			}
			if seen := upstream.Seen(); len(seen) > 0 != (want == 200) {
				t.Errorf("encode_raw_headers: %t: %q: the upstream saw %+v", encoded, path, seen)
			}
		}
		// If no rule depends on the path, it is not examined.
		front = gateway{Servers: []string{anyPath.Addr}, Upstream: upstream.Addr, RawHeaders: encoded}.start(t).Addr("front")
		if got := rawHTTP2(t, front, "/adm\xffin", reader); got != 200 {
			t.Errorf("without rules: %d, want 200", got)
		}
	}
	logged(t, server, "encode_raw_headers")
}

// rawHTTP2 sends a request over HTTP/2 whose path may contain any bytes, and returns the response's
// status.
func rawHTTP2(t testing.TB, addr, path string, secret keystore.Secret) int {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, polltest.Patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(polltest.Patience))
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a.example"}, {":path", path}, {"x-api-key", string(secret)}} {
		_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // writes to memory
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("%q: %v", path, err)
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			status, err := strconv.Atoi(f.PseudoValue("status"))
			if err != nil {
				t.Fatal(err)
			}
			return status
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			t.Fatalf("%q: %v", path, frame)
		}
	}
}
