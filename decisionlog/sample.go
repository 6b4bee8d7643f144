package decisionlog

import (
	"math/rand/v2"
	"strconv"

	"extauthz/check"
	"extauthz/traceparent"
)

// callersTrace returns the trace id that the caller chose, in 32 lower-case hexadecimal digits, and
// "caller"; "" for no trace.
func callersTrace(o *check.Observation) (id, from string) {
	if id = traceparent.Parse(o.TraceParent).TraceID; id != "" {
		return id, "caller"
	}
	return "", ""
}

// A sampler selects a share of the decisions: all or none of a trace, like every other sampler with
// the same share (OpenTelemetry's consistent probability sampling).
type sampler struct {
	share     float64
	text      string // the share as formatted in lines
	threshold uint64 // of 56 random bits
}

const randomBits = 56

func newSampler(share float64) sampler {
	return sampler{share, strconv.FormatFloat(share, 'g', -1, 64), uint64((1 - min(max(share, 0), 1)) * (1 << randomBits))}
}

// takes reports whether the decision is in the sample. Its random bits are the last ones of the
// trace id or, without one, those of a hash of the request id or, without one, new ones.
func (s *sampler) takes(trace, request string) bool {
	switch {
	case s.share >= 1:
		return true
	case s.share <= 0:
		return false
	}
	var random uint64
	switch {
	case trace != "":
		for i := len(trace) - randomBits/4; i < len(trace); i++ {
			c := trace[i]
			if c >= 'a' {
				c -= 'a' - '0' - 10
			}
			random = random<<4 | uint64(c-'0')
		}
	case request != "":
		random = hash(request) >> (64 - randomBits)
	default:
		random = rand.Uint64() >> (64 - randomBits) //nolint:gosec // a sample, not a secret
	}
	return random >= s.threshold
}

// hash is FNV-1a, and mixes it so that every bit depends on every byte. It is the same in every
// process.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
