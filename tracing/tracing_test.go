package tracing

import (
	"encoding/binary"
	"testing"
)

// The ratio is the share of the checks that begin a trace, and the ids of the traces alone decide: a
// smaller share is part of a larger one.
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
