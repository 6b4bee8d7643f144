package envoy

import (
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"extauthz/check"
)

// typical is a browser's fetch request through one proxy and Envoy.
func typical(secret string) ask {
	return send("x-api-key", secret, "user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		"accept", "application/json", "accept-language", "en-GB,en;q=0.5", "accept-encoding", "gzip, deflate, br, zstd",
		"x-forwarded-for", "203.0.113.9,10.0.0.1", "x-forwarded-proto", "https", "x-envoy-expected-rq-timeout-ms", "15000",
		"x-request-id", "b3ae2f17-68c4-4f2a-9d4a-1f3f2b1c0d9e", "content-length", "0").from("10.0.0.1").to("/v1/documents/17?fields=title")
}

func benchServer(b *testing.B) *Server {
	return server(b, check.Config{ClientAddress: proxies, Authorizer: authorizer(keyFor("alpha", "203.0.113.0/24", "2001:db8::/32", "198.51.100.7"))})
}

var benchSecrets = map[string]string{"allow": "alpha", "refuse": "beta"}

// BenchmarkCheck measures a check on the generated types, without their encoding.
func BenchmarkCheck(b *testing.B) {
	for name, secret := range benchSecrets {
		b.Run(name, func(b *testing.B) {
			s, req := benchServer(b), typical(secret).mapped()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Check(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCheckBytes measures a check from bytes to bytes: stock with the generated code, wire with this
// package's.
func BenchmarkCheckBytes(b *testing.B) {
	for name, secret := range benchSecrets {
		b.Run("stock/"+name, func(b *testing.B) {
			s := benchServer(b)
			in, err := proto.Marshal(typical(secret).mapped())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				req := new(authv3.CheckRequest)
				if err := proto.Unmarshal(in, req); err != nil {
					b.Fatal(err)
				}
				resp, _ := s.Check(b.Context(), req)
				if _, err := proto.Marshal(resp); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("wire/"+name, func(b *testing.B) {
			s := benchServer(b)
			in, err := proto.Marshal(typical(secret).mapped())
			if err != nil {
				b.Fatal(err)
			}
			codec, data := newCodec(New(nil, MaxMessageSize(maxMessageSize))), mem.BufferSlice{mem.SliceBuffer(in)}
			b.ReportAllocs()
			for b.Loop() {
				c := calls.Get().(*call)
				if err := codec.Unmarshal(data, c); err != nil || c.unread != nil {
					b.Fatal(err, c.unread)
				}
				s.answer(b.Context(), c)
				c.release()
			}
		})
	}
}
