package envoymodule

import (
	"context"
	"testing"

	"extauthz/authz"
)

// BenchmarkCheck is one request whose key is in memory, without the decision and without Envoy.
func BenchmarkCheck(b *testing.B) {
	f := newFilter("", newBackend(b, func(context.Context, authz.Request) (authz.Decision, error) { return valid, nil }))
	headers := [][2]string{
		{":authority", "api.example"},
		{":path", "/v1/documents/17?fields=title"},
		{":method", "GET"},
		{":scheme", "http"},
		{"user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"},
		{"accept", "application/json"},
		{"accept-language", "en-GB,en;q=0.5"},
		{"accept-encoding", "gzip, deflate, br, zstd"},
		{"x-api-key", "sk_000000000000000000017"},
		{"x-forwarded-proto", "http"},
		{"x-request-id", "17e3ea55-651a-4b34-acac-4fb2ab2eb1e5"},
	}
	b.ReportAllocs()
	for b.Loop() {
		c := NewCall()
		for _, h := range headers {
			c.AddHeader(h[0], h[1])
		}
		c.SetPeer("127.0.0.1:51008")
		if !f.Check(c, nil) || !c.Reply.Allowed {
			b.Fatal(c.Reply)
		}
		c.Release()
	}
}
