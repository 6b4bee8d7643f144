package yamlfile

import "time"

// While keys are in use, a reload works for a moment and then sleeps for four, so that checks in the
// meantime do not wait for the processor. With 100,000 keys it sleeps for 0.15 s in all. It sleeps
// for maxRest at most, because a change must be live within a second.
const (
	workTime = 125 * time.Microsecond
	restTime = 4 * workTime
	maxRest  = 250 * time.Millisecond
)

// newThrottle returns a function to call often, which sleeps when it is time to.
func newThrottle() func() {
	last, left := time.Now(), maxRest
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
