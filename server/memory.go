package server

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"extauthz/config"
)

// With a memory limit, the heap may grow by maxGCPercent of the live heap before the next collection.
// Without one, it may grow by spareMemory, but by no less than minGCPercent and no more than maxGCPercent.
const (
	minGCPercent = 100
	maxGCPercent = 400
	spareMemory  = 64 << 20
)

// adaptive is a GC percentage that follows the size of the live heap.
const adaptive = -1

// A memory applies the configuration's memory settings to the garbage collector. It is not safe for
// concurrent use.
type memory struct{ tuner *gcTuner } // nil if the percentage is fixed

// set applies new settings.
func (m *memory) set(c config.Memory, log *slog.Logger) {
	if m.tuner != nil {
		m.tuner.stop()
		m.tuner = nil
	}
	limit, percent := memorySettings(c, os.Getenv, memlimit.FromCgroup)
	if limit > 0 {
		debug.SetMemoryLimit(limit)
	}
	switch {
	case percent > 0:
		debug.SetGCPercent(percent)
	case percent == adaptive:
		m.tuner = &gcTuner{percent: maxGCPercent}
		debug.SetGCPercent(m.tuner.percent)
		m.tuner.follow()
	}
	log.Debug("memory", "limit", debug.SetMemoryLimit(-1), "gc_percent", percent)
}

// memorySettings returns the memory limit in bytes and the GC percentage, which may be adaptive; 0 for
// one that the environment has set. container returns the container's memory limit, or an error if there
// is none.
func memorySettings(c config.Memory, env func(string) string, container func() (uint64, error)) (limit int64, percent int) {
	limited := true
	switch {
	case env("GOMEMLIMIT") != "":
		limited = env("GOMEMLIMIT") != "off"
	case c.Limit > 0:
		limit = int64(c.Limit)
	default:
		limit = math.MaxInt64
		if c.Limit == config.AutoLimit {
			if bytes, err := container(); err == nil && bytes < math.MaxInt64 {
				limit = int64(bytes) / 10 * 9
			}
		}
		limited = limit < math.MaxInt64
	}
	switch {
	case env("GOGC") != "":
		return limit, 0
	case c.GCPercent > 0:
		return limit, c.GCPercent
	case limited:
		return limit, maxGCPercent
	}
	return limit, adaptive
}
