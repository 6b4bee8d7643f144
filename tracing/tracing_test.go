package tracing

import (
	"encoding/binary"
	"net"
	"net/url"
	"testing"
	"time"

	"extauthz/check"
	"extauthz/traceparent"
)

// The ratio is the share of the checks that begin a trace. Only the trace id decides, so that a smaller
// share is a subset of a larger one.
func TestRatio(t *testing.T) {
	const n = 40_000
	quarter := Tracer{ratio: 0.25, threshold: 3 << (randomBits - 2)}
	sampled, half := 0, 0
	for range n {
		id, ok := quarter.sample()
		if !ok {
			continue
		}
		sampled++
		switch random := binary.BigEndian.Uint64(id[8:]) & (1<<randomBits - 1); {
		case random < quarter.threshold || !id.IsValid():
			t.Fatalf("%s is not in the sample", id)
		case random >= 7<<(randomBits-3):
			half++
		}
	}
	if sampled < n/5 || sampled > n*3/10 || half < sampled*2/5 || half > sampled*3/5 {
		t.Errorf("%d of %d are in a quarter, and %d of those in an eighth", sampled, n, half)
	}
	for ratio, want := range map[float64]bool{0: false, 1: true} {
		all := Tracer{threshold: uint64((1 - ratio) * (1 << randomBits))}
		if _, ok := all.sample(); ok != want {
			t.Errorf("ratio %v: %t", ratio, ok)
		}
	}
}

// Spans for an https endpoint are encrypted, whatever the environment contains.
func TestEndpointKeepsTLS(t *testing.T) {
	for name, overHTTP := range map[string]bool{"grpc": false, "http": true} {
		t.Run(name, func(t *testing.T) {
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer lis.Close()
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+lis.Addr().String())
			t.Setenv("OTEL_EXPORTER_OTLP_INSECURE", "true")
			tracer, err := Open(t.Context(), Config{Endpoint: &url.URL{Scheme: "https", Host: lis.Addr().String(), Path: "/v1/traces"}, HTTP: overHTTP})
			if err != nil {
				t.Fatal(err)
			}
			parent := traceparent.Parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
			tracer.End(tracer.Begin(t.Context(), parent, ""), new(check.Observation))
			conn, err := lis.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			first := make([]byte, 1)
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if _, err := conn.Read(first); err != nil || first[0] != 0x16 { // a TLS handshake
				t.Errorf("the first byte is %#x, %v", first, err)
			}
			_ = lis.Close()
			tracer.Close()
		})
	}
}
