// Package polltest waits in tests for conditions that another goroutine, process or machine
// fulfills.
package polltest

import (
	"errors"
	"testing"
	"time"
)

// Patience is how long to wait before a test fails. A test that passes waits no longer than
// necessary.
const Patience = time.Minute

const interval = 5 * time.Millisecond

// Until calls holds until it returns true. After [Patience] it fails the test with a message that
// describes the condition.
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

// NoError calls f until it returns nil. After [Patience] it fails the test with the last error.
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
