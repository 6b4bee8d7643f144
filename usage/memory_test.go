package usage_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"extauthz/authz"
	"extauthz/usage"
)

// BenchmarkMemory prints the memory of the buffer between two flushes, by the number of keys in use.
func BenchmarkMemory(b *testing.B) {
	for _, addresses := range []int{1, 4} {
		b.Run(fmt.Sprintf("keys=100000/addresses=%d", addresses), func(b *testing.B) {
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				r := usage.NewRecorder(usage.RecorderConfig{})
				for i := range 100_000 {
					id := fmt.Sprintf("key_%06d", i)
					for a := range addresses {
						r.Record(&usage.Event{KeyID: id, Addr: netip.AddrFrom4([4]byte{10, byte(a), byte(i >> 8), byte(i)}), Code: authz.Valid, Time: day1})
					}
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
				runtime.KeepAlive(r)
			}
		})
	}
}
