package envoy

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"extauthz/check"
	"extauthz/keystore"
	"extauthz/usage"
)

// BenchmarkUsage compares the CPU time of a check, from bytes to bytes, with and without recording its key and
// address. It alternates between both every 500 checks, and reports the median of the ratios.
func BenchmarkUsage(b *testing.B) {
	for _, n := range []struct{ keys, addresses int }{{1, 1}, {1000, 4}, {10_000, 4}} {
		b.Run(fmt.Sprintf("keys=%d,addresses=%d", n.keys, n.addresses), func(b *testing.B) {
			recorder := usage.NewRecorder(usage.RecorderConfig{MaxBuffered: 1 << 20})
			var all []*keystore.Key
			var requests []mem.BufferSlice
			for i := range n.keys {
				secret := fmt.Sprintf("secret%d", i)
				all = append(all, keyFor(secret, "203.0.113.0/24"))
				for a := range n.addresses {
					ask := typical(secret)
					in, err := proto.Marshal(ask.from(fmt.Sprintf("203.0.113.%d", a+1)).mapped())
					if err != nil {
						b.Fatal(err)
					}
					requests = append(requests, mem.BufferSlice{mem.SliceBuffer(in)})
				}
			}
			decide := authorizer(all...)
			codec := newCodec(New(nil, MaxMessageSize(maxMessageSize)))
			next := uint64(0)
			// turn returns the CPU time of some checks.
			turn := func(s *Server) float64 {
				start := threadTime(b)
				for range 500 {
					next = next*6364136223846793005 + 1442695040888963407
					c := calls.Get().(*call)
					if err := codec.Unmarshal(requests[next>>33%uint64(len(requests))], c); err != nil || c.unread != nil {
						b.Fatal(err, c.unread)
					}
					s.answer(b.Context(), c)
					c.release()
				}
				return float64(threadTime(b) - start)
			}
			off := server(b, check.Config{Authorizer: decide, Observe: func(context.Context, *check.Observation) {}})
			on := server(b, check.Config{Authorizer: decide, Observe: func(_ context.Context, o *check.Observation) {
				recorder.Record(&usage.Event{KeyID: o.Decision.Key.ID, Addr: o.ClientAddr, Code: o.Decision.Code, Time: o.Start.Add(o.Duration)})
			}})
			for range max(1, 10*len(requests)/500) { // until the buffer contains every address
				turn(on)
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var ratios, times []float64
			for b.Loop() {
				without := turn(off)
				with := turn(on)
				ratios, times = append(ratios, with/without), append(times, without/500)
			}
			slices.Sort(ratios)
			slices.Sort(times)
			b.ReportMetric(ratios[len(ratios)/2], "on/off")
			b.ReportMetric(times[len(times)/2], "ns/check")
		})
	}
}

// threadTime returns the CPU time of this thread.
func threadTime(b *testing.B) time.Duration {
	b.Helper()
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}
