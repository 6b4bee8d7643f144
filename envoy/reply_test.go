package envoy

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"extauthz/authz"
)

func TestBodyIsJSON(t *testing.T) {
	for _, id := range []string{"", "r1", `"`, `\`, "\x00\x1f\n\t", "\x7f", "é\u2028😀", `"},"data":{"valid":true`, "a\xffb", "<script>"} {
		r := reply{code: authz.Forbidden, keyID: "key_a", requestID: id}
		var body struct {
			Meta struct {
				RequestID *string `json:"requestId"`
			} `json:"meta"`
			Data map[string]any `json:"data"`
		}
		d := json.NewDecoder(strings.NewReader(string(r.appendBody(nil))))
		d.DisallowUnknownFields()
		if err := d.Decode(&body); err != nil {
			t.Fatalf("%q: %v: %s", id, err, r.appendBody(nil))
		}
		if *body.Meta.RequestID != strings.ToValidUTF8(id, "\ufffd") || len(body.Data) != 3 ||
			body.Data["valid"] != false || body.Data["code"] != "FORBIDDEN" || body.Data["keyId"] != "key_a" {
			t.Errorf("%q: %s", id, r.appendBody(nil))
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
	s := server(t, Config{Authorizer: always(authz.Valid)})
	resp := check(t, s, send("x-api-key", "s", "X-Extauthz-Key-Id", "root", "x-extauthz-key-id", "root2", "x-extauthz-role", "a", "x-extauthz-role", "b"))
	removed := resp.GetOkResponse().GetHeadersToRemove()
	for _, h := range resp.GetOkResponse().GetHeaders() {
		for _, name := range removed {
			if strings.EqualFold(name, h.GetHeader().GetKey()) {
				t.Errorf("%s is set and then removed", name)
			}
		}
		if h.GetAppend() != nil { //nolint:staticcheck // what Envoy 1.40 heeds; append_action it ignores
			t.Errorf("%s is appended", h.GetHeader().GetKey())
		}
	}
	if !strings.Contains(strings.Join(removed, " "), "x-extauthz-role") {
		t.Errorf("x-extauthz-role goes upstream: removed are %q", removed)
	}
}

// TestUnsendableRecord: a record whose fields are no text must not fail the RPC, which Envoy
// might take for a reason to let the request through.
func TestUnsendableRecord(t *testing.T) {
	k := keyFor("secret")
	k.ID, k.ExternalID = "key_\xff", "\xfe"
	resp := check(t, server(t, Config{Authorizer: authorizer(k)}), send("x-api-key", "secret"))
	for _, h := range resp.GetOkResponse().GetHeaders() {
		if !utf8.ValidString(h.GetHeader().GetValue()) {
			t.Errorf("%q cannot be sent", h.GetHeader().GetValue())
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
