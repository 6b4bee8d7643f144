package yamlfile

import "time"

// While keys are in use a reload works for a moment and rests for four, so that the checks
// that come in the meantime do not wait for the processor: with 100,000 keys it rests for about
// 0.15 s in all. One with much to read rests as long as it may, and then no more: a change is
// to be live within a second.
const (
	workTime = 125 * time.Microsecond
	restTime = 4 * workTime
	mostRest = 250 * time.Millisecond
)

// A pacer makes a reload rest; nil does not.
type pacer struct {
	since time.Time     // of the last rest
	left  time.Duration // how long there still may be rests
}

func newPacer() *pacer { return &pacer{time.Now(), mostRest} }

// pause rests if it is time to.
func (p *pacer) pause() {
	if p == nil || p.left <= 0 {
		return
	}
	now := time.Now()
	if now.Sub(p.since) < workTime {
		return
	}
	time.Sleep(restTime)
	p.since = time.Now()
	p.left -= p.since.Sub(now)
}
