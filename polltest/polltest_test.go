package polltest_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"extauthz/polltest"
)

func TestWaitsUntilItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ready := time.Now().Add(polltest.Patience - time.Second)
		polltest.Until(t, "ready", func() bool { return !time.Now().Before(ready) })
		if since := time.Since(ready); since > time.Second {
			t.Errorf("%s late", since)
		}
	})
}

// recorder is a testing.TB that records how it failed.
type recorder struct {
	testing.TB
	message string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestFailureNamesWhatItWaitedFor(t *testing.T) {
	for name, wait := range map[string]func(testing.TB){
		"the key is gone": func(t testing.TB) { polltest.Until(t, "the key is gone", func() bool { return false }) },
		"status 401":      func(t testing.TB) { polltest.NoError(t, func() error { return errors.New("status 401") }) },
	} {
		synctest.Test(t, func(t *testing.T) {
			var r recorder
			failed := make(chan struct{})
			go func() { defer close(failed); wait(&r) }()
			<-failed
			if !strings.Contains(r.message, name) {
				t.Errorf("the failure says %q, want %q", r.message, name)
			}
		})
	}
}
