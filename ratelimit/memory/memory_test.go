package memory_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"extauthz/ratelimit"
	"extauthz/ratelimit/memory"
	"extauthz/ratelimit/ratelimittest"
)

func TestLimiter(t *testing.T) {
	ratelimittest.Run(t, func(_ *testing.T, now func() time.Time) ratelimit.Limiter { return memory.New(now) })
}

func requests(limit, cost int64) []ratelimit.Charge {
	return []ratelimit.Charge{{Name: "requests", Limit: limit, Duration: time.Minute, Cost: cost}}
}

func take(t testing.TB, l *memory.Limiter, key string, c []ratelimit.Charge) ratelimit.Result {
	r, err := l.Take(t.Context(), ratelimit.Subject{Key: key}, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Keys that were used once need as much memory as documented, and none when they are idle.
func TestMemory(t *testing.T) {
	const keys = 200_000
	ids := make([]string, keys)
	for i := range ids {
		ids[i] = fmt.Sprintf("key_%06d", i)
	}
	clock := ratelimittest.NewClock()
	l := memory.New(clock.Now)
	before := heap()
	for _, id := range ids {
		take(t, l, id, requests(10, 1))
	}
	each := (heap() - before) / keys
	t.Logf("%d bytes a counter", each)
	if each < 50 || each > 200 {
		t.Errorf("%d bytes a counter; about 150 are documented", each)
	}
	clock.Advance(2 * time.Minute)
	for range 300 { // each sweeps one of the 256 shards
		take(t, l, "key_busy", requests(1000, 1))
		clock.Advance(50 * time.Millisecond)
	}
	if left := heap() - before; left > keys {
		t.Errorf("%d bytes are left of idle counters", left)
	}
	runtime.KeepAlive(l)
	runtime.KeepAlive(ids)
}

func TestTakeAllocatesItsResultAlone(t *testing.T) {
	l := memory.New(time.Now)
	c := requests(1_000_000, 1)
	take(t, l, "key", c)
	if n := testing.AllocsPerRun(100, func() { take(t, l, "key", c) }); n > 1 {
		t.Errorf("%v allocations, want 1", n)
	}
}

func BenchmarkTake(b *testing.B) {
	ids := make([]string, 1<<15)
	for i := range ids {
		ids[i] = fmt.Sprintf("%020d", i)
	}
	for name, known := range map[string]bool{"request unknown": false, "request known": true} {
		b.Run(name, func(b *testing.B) {
			l := memory.New(time.Now)
			c := requests(1<<40, 1)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				s := ratelimit.Subject{Key: "key"}
				for n := 0; pb.Next(); n++ {
					if known {
						s.Request = ids[n%len(ids)]
					}
					if _, err := l.Take(b.Context(), s, c); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
