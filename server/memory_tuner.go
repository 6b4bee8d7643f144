package server

import (
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"sync"
)

// A gcTuner adjusts the GC percentage after each collection: small heaps are collected less often, and
// large ones grow to at most twice the live heap.
type gcTuner struct {
	mu      sync.Mutex
	stopped bool
	percent int
}

// A gcMark is unreachable once it is made, so that its cleanup runs after the next collection.
type gcMark struct{ _ *gcMark }

// stop ends the tuning.
func (t *gcTuner) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
}

// follow tunes after each collection, until stop is called.
func (t *gcTuner) follow() {
	runtime.AddCleanup(new(gcMark), func(t *gcTuner) {
		live := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
		runtimemetrics.Read(live)
		if t.tune(live[0].Value.Uint64()) {
			t.follow()
		}
	}, t)
}

// tune sets the percentage for a live heap of this size if it differs by more than an eighth, since
// setting it stops the world. It reports whether to continue.
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

// gcPercent returns the GC percentage for a live heap of this size.
func gcPercent(live uint64) int {
	return int(min(max(spareMemory*100/max(live, 1), minGCPercent), maxGCPercent))
}
