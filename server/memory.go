package server

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"extauthz/config"
)

// Where a memory limit bounds what it costs, unused memory may grow to mostGCPercent of what is
// in use. Where none is known, to spareMemory, within these bounds.
const (
	leastGCPercent = 100
	mostGCPercent  = 400
	spareMemory    = 64 << 20
)

// adaptive stands for a percentage that follows what is in use.
const adaptive = -1

// A memory makes the garbage collector work as the configuration says. It is not safe for
// concurrent use.
type memory struct{ tuner *gcTuner } // nil if the percentage is a fixed one

// set changes what the configuration says.
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
		m.tuner = &gcTuner{percent: mostGCPercent}
		debug.SetGCPercent(m.tuner.percent)
		m.tuner.follow()
	}
	log.Debug("memory", "limit", debug.SetMemoryLimit(-1), "gc_percent", percent)
}

// memorySettings returns the memory limit in bytes and the GC percentage, which may be adaptive;
// 0 for what is to stay as the environment has set it. container returns the container's own
// limit, or an error where it has none.
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
		return limit, mostGCPercent
	}
	return limit, adaptive
}
