package server

import (
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"sync"
)

// A gcTuner sets the GC percentage after each collection, so that a server with few keys, whose
// memory is small in any case, collects seldom, and one with many takes no more than twice what
// it uses.
type gcTuner struct {
	mu      sync.Mutex
	stopped bool
	percent int
}

// A gcMark is unreachable from the start: its cleanup runs after the next collection.
type gcMark struct{ _ *gcMark }

// stop ends what follow began.
func (t *gcTuner) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
}

// follow tunes after the next collection, and goes on to do so until stop is called.
func (t *gcTuner) follow() {
	runtime.AddCleanup(new(gcMark), func(t *gcTuner) {
		live := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
		runtimemetrics.Read(live)
		if t.tune(live[0].Value.Uint64()) {
			t.follow()
		}
	}, t)
}

// tune sets the percentage for what is in use, if it is well off: setting it stops all else for
// a moment. It reports whether to go on.
func (t *gcTuner) tune(live uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return false
	}
	if percent := gcPercent(live); percent > t.percent+t.percent/8 || percent < t.percent-t.percent/8 {
		t.percent = percent
		debug.SetGCPercent(percent)
	}
	return true
}

// gcPercent returns how much of what is in use may be unused.
func gcPercent(live uint64) int {
	return int(min(max(spareMemory*100/max(live, 1), leastGCPercent), mostGCPercent))
}
