package yamlfile

import "time"

// While keys are in use, a reload works for a moment and then rests for four, so that checks in
// the meantime do not wait for the processor: with 100,000 keys it rests for 0.15 s in all. A
// change must be live within a second, so one with much to read rests no more than maxRest.
const (
	workTime = 125 * time.Microsecond
	restTime = 4 * workTime
	maxRest  = 250 * time.Millisecond
)

// newThrottle returns a function to be called often. It sleeps when it is time to rest.
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
