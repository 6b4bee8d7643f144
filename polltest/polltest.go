// Package polltest waits in tests for something that another goroutine, process or machine does
// in its own time.
package polltest

import (
	"errors"
	"testing"
	"time"
)

// Patience is how long anything may take before a test fails. It bounds a failure alone: a test
// that passes waits no longer than it has to.
const Patience = time.Minute

const interval = 5 * time.Millisecond

// Until calls holds until it returns true. The test fails after [Patience], naming what it waited
// for.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	notYet := errors.New(what)
	NoError(t, func() error {
		if holds() {
			return nil
		}
		return notYet
	})
}

// NoError calls f until it returns nil. The test fails after [Patience], with the last error.
func NoError(t testing.TB, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(interval) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", Patience, err)
		}
	}
}
