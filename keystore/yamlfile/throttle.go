package yamlfile

import "time"

// While keys are in use, a pass over all of them works for a moment and then sleeps for four, so that
// checks do not wait for the processor. A reload of 100,000 keys sleeps for 0.15 s in all.
const (
	workTime = 125 * time.Microsecond
	restTime = 4 * workTime
	maxRest  = 250 * time.Millisecond // of a reload, because a change must be live within a second
)

// newThrottle returns a function to call often, which sleeps when it is time to, for left in all.
func newThrottle(left time.Duration) func() {
	last := time.Now()
	return func() {
		now := time.Now()
		if left <= 0 || now.Sub(last) < workTime {
			return
		}
		time.Sleep(restTime)
		last = time.Now()
		left -= last.Sub(now)
	}
}

// noThrottle never sleeps.
func noThrottle() {}
