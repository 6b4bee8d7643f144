package main

import (
	"slices"
	"time"
)

// median returns the median, or 0 if there are no values.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// quantile returns the smallest duration that at least q of them do not exceed. It sorts them.
func quantile(durations []time.Duration, q float64) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	slices.Sort(durations)
	return durations[min(len(durations)-1, int(q*float64(len(durations))))]
}

// A series has one measured value per round.
type series struct {
	Median float64   `json:"median"`
	Rounds []float64 `json:"rounds"`
}

func (s *series) add(v float64) {
	s.Rounds = append(s.Rounds, v)
	s.Median = median(s.Rounds)
}

// over returns the median of the ratios to another series, round by round.
func (s *series) over(other *series) float64 {
	var ratios []float64
	for i := range min(len(s.Rounds), len(other.Rounds)) {
		ratios = append(ratios, s.Rounds[i]/other.Rounds[i])
	}
	return median(ratios)
}
