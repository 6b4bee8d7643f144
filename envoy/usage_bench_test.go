package envoy

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"extauthz/check"
	"extauthz/usage"
)

// BenchmarkUsage compares a check, from bytes to bytes, whose key and address are recorded with one
// where they are not.
func BenchmarkUsage(b *testing.B) {
	recorder := usage.NewRecorder(usage.RecorderConfig{})
	for name, observe := range map[string]func(context.Context, *check.Observation){
		"off": func(context.Context, *check.Observation) {},
		"on": func(_ context.Context, o *check.Observation) {
			recorder.Record(&usage.Event{KeyID: o.Decision.Key.ID, Addr: o.ClientAddr, Code: o.Decision.Code, Time: time.Now()})
		},
	} {
		b.Run(name, func(b *testing.B) {
			s := server(b, check.Config{ClientAddress: proxies, Authorizer: authorizer(keyFor("alpha", "203.0.113.0/24")), Observe: observe})
			in, err := proto.Marshal(typical("alpha").mapped())
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
