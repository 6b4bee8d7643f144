package server

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"testing"

	"extauthz/config"
	"extauthz/polltest"
)

func TestMemorySettings(t *testing.T) {
	const gib = 1 << 30
	in := func(bytes uint64) func() (uint64, error) { return func() (uint64, error) { return bytes, nil } }
	free := func() (uint64, error) { return 0, errors.New("no limit") }
	for _, c := range []struct {
		name      string
		memory    config.Memory
		env       map[string]string
		container func() (uint64, error)
		limit     int64
		percent   int
	}{
		{"no container", config.Memory{}, nil, free, math.MaxInt64, adaptive},
		{"a container", config.Memory{}, nil, in(gib), gib / 10 * 9, 400},
		{"a container that says no more than that it has all", config.Memory{}, nil, in(math.MaxUint64), math.MaxInt64, adaptive},
		{"a size wins over the container's", config.Memory{Limit: gib / 2}, nil, in(gib), gib / 2, 400},
		{"none wins over the container's", config.Memory{Limit: config.NoLimit}, nil, in(gib), math.MaxInt64, adaptive},
		{"a percentage", config.Memory{GCPercent: 50}, nil, in(gib), gib / 10 * 9, 50},
		{"GOMEMLIMIT wins", config.Memory{Limit: gib}, map[string]string{"GOMEMLIMIT": "2GiB"}, in(gib), 0, 400},
		{"GOMEMLIMIT can be off", config.Memory{}, map[string]string{"GOMEMLIMIT": "off"}, in(gib), 0, adaptive},
		{"GOGC wins", config.Memory{GCPercent: 50}, map[string]string{"GOGC": "75"}, free, math.MaxInt64, 0},
	} {
		limit, percent := memorySettings(c.memory, func(name string) string { return c.env[name] }, c.container)
		if limit != c.limit || percent != c.percent {
			t.Errorf("%s: limit %d, %d %%; want %d, %d %%", c.name, limit, percent, c.limit, c.percent)
		}
	}
}

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 16 << 20: 400, 32 << 20: 200, 64 << 20: 100, 1 << 40: 100, math.MaxUint64: 100} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d bytes: %d, want %d", live, got, want)
		}
	}
}

// The percentage falls while much memory is in use, and rises again.
func TestGCTuner(t *testing.T) {
	before := debug.SetGCPercent(maxGCPercent)
	defer debug.SetGCPercent(before)
	tuner := &gcTuner{percent: maxGCPercent}
	tuner.follow()
	becomes := func(want int) {
		t.Helper()
		now := []runtimemetrics.Sample{{Name: "/gc/gogc:percent"}}
		polltest.NoError(t, func() error {
			runtime.GC()
			if runtimemetrics.Read(now); now[0].Value.Uint64() != uint64(want) {
				return fmt.Errorf("the percentage is %d, want %d", now[0].Value.Uint64(), want)
			}
			return nil
		})
	}
	func() {
		much := make([]byte, 4*spareMemory)
		becomes(minGCPercent)
		runtime.KeepAlive(much)
	}()
	becomes(maxGCPercent)
}
