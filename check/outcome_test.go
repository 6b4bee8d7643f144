package check

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"extauthz/authz"
)

// TestEveryRefusalRefuses: no code except VALID, known or not, allows a request.
func TestEveryRefusalRefuses(t *testing.T) {
	for code := range 256 {
		o := check(t, checker(t, Config{Authorizer: always(authz.Code(code))}), send("x-api-key", "secret"))
		if o.Allowed() != (authz.Code(code) == authz.Valid) || codeOf(t, o) != authz.Code(code).String() {
			t.Errorf("code %d: %+v", code, o)
		}
		if direct := (&Outcome{Code: authz.Code(code)}); direct.Allowed() != o.Allowed() || direct.Status() != o.Status() && !o.Allowed() {
			t.Errorf("code %d: %+v", code, direct)
		}
	}
	zero := new(Outcome)
	if zero.Allowed() || !zero.IsError() || zero.Status() != 503 || !strings.Contains(string(zero.AppendBody(nil)), `"UNAVAILABLE"`) {
		t.Errorf("the zero Outcome does not refuse: %+v", zero)
	}
}

func TestStatuses(t *testing.T) {
	statuses := map[authz.Code]int{authz.Expired: 403, authz.Forbidden: 401, authz.RateLimited: 503, authz.Disabled: 429, authz.Unavailable: 500}
	for code, want := range statuses {
		o := check(t, checker(t, Config{Authorizer: always(code), Statuses: statuses}), send("x-api-key", "secret"))
		if got := o.Status(); got != want {
			t.Errorf("%s: status %d, want %d", code, got, want)
		}
		if ok := headerOf(o.ResponseHeaders, "www-authenticate") != ""; ok != (want == 401) {
			t.Errorf("%s: www-authenticate beside status %d: %v", code, want, ok)
		}
		if ok := headerOf(o.ResponseHeaders, "retry-after") != ""; ok != (want == 429 || code == authz.RateLimited) {
			t.Errorf("%s: retry-after beside status %d: %v", code, want, ok)
		}
		if codeOf(t, o) != code.String() {
			t.Errorf("%s: the metadata says %s", code, codeOf(t, o))
		}
	}
}

func TestObservation(t *testing.T) {
	var seen Observation
	c := checker(t, Config{
		Authorizer: authorizer(keyFor("secret", "203.0.113.0/24")), ClientAddress: lb, KeySources: []KeySource{Query("key")},
		Observe: func(_ context.Context, o *Observation) { seen = *o },
	})
	check(t, c, send("x-request-id", "r1", "x-forwarded-for", "203.0.113.9").from("10.0.0.1").to("/a/b?key=secret"))
	want := Observation{
		Decision: seen.Decision, ClientAddr: netip.MustParseAddr("203.0.113.9"), AddrFrom: "x-forwarded-for",
		RequestID: "r1", Peer: "10.0.0.1", Method: "GET", Host: "api.example", Path: "/a/b", Start: seen.Start, Duration: seen.Duration,
	}
	if seen != want || seen.Decision.Code != authz.Valid || seen.Decision.Key.ID != "key_secret" || seen.Duration <= 0 || seen.Start.IsZero() {
		t.Errorf("observed %+v", seen)
	}

	long := strings.Repeat("é", 4000)
	o := check(t, c, send("x-request-id", long, "x-forwarded-for", "unknown").from("10.0.0.1").to("/"+long+"?key=nope"))
	if len(seen.Path) > 1024 || len(seen.Path) < 1020 || len(seen.RequestID) != 128 || !errors.Is(seen.AddrErr, errNotAnAddr) || seen.ClientAddr.IsValid() {
		t.Errorf("observed %+v", seen)
	}
	if body := string(o.AppendBody(nil)); len(body) > 300 || codeOf(t, o) != "NOT_FOUND" {
		t.Errorf("the body is %s", body)
	}
}

func TestBodyIsJSON(t *testing.T) {
	for _, id := range []string{"", "r1", `"`, `\`, "\x00\x1f\n\t", "\x7f", "é\u2028😀", `"},"data":{"valid":true`, "a\xffb", "<script>"} {
		o := Outcome{Code: authz.Forbidden, KeyID: "key_a", requestID: id}
		var body struct {
			Meta struct {
				RequestID *string `json:"requestId"`
			} `json:"meta"`
			Data map[string]any `json:"data"`
		}
		d := json.NewDecoder(strings.NewReader(string(o.AppendBody(nil))))
		d.DisallowUnknownFields()
		if err := d.Decode(&body); err != nil {
			t.Fatalf("%q: %v: %s", id, err, o.AppendBody(nil))
		}
		if *body.Meta.RequestID != strings.ToValidUTF8(id, "\ufffd") || len(body.Data) != 3 ||
			body.Data["valid"] != false || body.Data["code"] != "FORBIDDEN" || body.Data["keyId"] != "key_a" {
			t.Errorf("%q: %s", id, o.AppendBody(nil))
		}
	}
}

func TestGRPCCaller(t *testing.T) {
	for contentType, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "APPLICATION/GRPC;charset=x": true, "application/grpc ; x": true,
		"application/grpc-web": false, "application/grpc-web+proto": false, "application/grpcx": false, "application/gr": false,
		"": false, "application/json": false, "text/plain, application/grpc": false,
	} {
		if isGRPC(contentType) != want {
			t.Errorf("%q: %v", contentType, !want)
		}
	}
}

func TestIdentityHeaders(t *testing.T) {
	for name, want := range map[string]bool{
		"x-extauthz-key-id": true, "X-ExtAuthz-": true, "x_extauthz_key_id": true, "X_extauthz-a": true,
		"x-extauthz": false, "x-ext-authz-a": false, "ax-extauthz-a": false, "x-api-key": false, "": false,
	} {
		if isIdentity(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
	c := checker(t, Config{Authorizer: always(authz.Valid)})
	o := check(t, c, send("x-api-key", "s", "X-Extauthz-Key-Id", "root", "x-extauthz-key-id", "root2", "x-extauthz-role", "a", "x-extauthz-role", "b"))
	for _, h := range o.SetHeaders {
		for _, name := range o.RemoveHeaders {
			if strings.EqualFold(name, h.Name) {
				t.Errorf("%s is set and removed", name)
			}
		}
	}
	if !slices.Contains(o.RemoveHeaders, "x-extauthz-role") {
		t.Errorf("x-extauthz-role goes upstream: removed are %q", o.RemoveHeaders)
	}
}

// TestUnsendableRecord: a record with bytes that are not UTF-8 must not fail the RPC, because Envoy may let
// the request through then.
func TestUnsendableRecord(t *testing.T) {
	k := keyFor("secret")
	k.ID, k.ExternalID = "key_\xff", "\xfe"
	o := check(t, checker(t, Config{Authorizer: authorizer(k)}), send("x-api-key", "secret"))
	for _, h := range o.SetHeaders {
		if !utf8.ValidString(h.Value) {
			t.Errorf("%q cannot be sent", h.Value)
		}
	}
}

func TestClip(t *testing.T) {
	for _, tt := range []struct {
		s    string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aé", 2, "a"}, {"é", 1, ""}, {"\x80\x80", 1, ""}, {"", 0, ""}} {
		if got := clip(tt.s, tt.n); got != tt.want {
			t.Errorf("clip(%q, %d) = %q, want %q", tt.s, tt.n, got, tt.want)
		}
	}
}
