// Package proctest runs programs in tests. Each ends with its test, and its output is logged if the
// test failed.
package proctest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"extauthz/polltest"
)

// NoExitDelay is an environment variable for programs built with the race detector: without it,
// each sleeps for a second before it exits. Races that were detected are still reported.
const NoExitDelay = "GORACE=atexit_sleep_ms=0"

// A Process is a program that a test started. It is safe for concurrent use.
type Process struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	log    *Buffer
	exited chan struct{} // closed when it has ended
}

// Start starts cmd and waits until ready, if non-nil, returns nil. name is the program's name in the
// test's output. The program is killed when the test ends; the test fails if the program reported a
// data race.
func Start(t testing.TB, name string, cmd *exec.Cmd, ready func() error) *Process {
	t.Helper()
	p := &Process{t: t, name: name, cmd: cmd, log: new(Buffer), exited: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = p.log
	}
	if cmd.Stderr == nil {
		cmd.Stderr = p.log
	}
	cmd.Env = append([]string{NoExitDelay}, cmd.Environ()...)
	killWithParent(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.exited)
		_ = cmd.Wait() // ProcessState holds the outcome
	}()
	t.Cleanup(p.end)
	if ready != nil {
		p.Await(ready)
	}
	return p
}

// Await waits until ready returns nil. It fails the test if the program ends earlier.
func (p *Process) Await(ready func() error) {
	p.t.Helper()
	polltest.NoError(p.t, func() error {
		err := ready()
		if err != nil && !p.Running() {
			p.t.Fatalf("%s ended before it was ready: %s", p.name, p.cmd.ProcessState)
		}
		if err != nil {
			return fmt.Errorf("%s is not ready: %w", p.name, err)
		}
		return nil
	})
}

func (p *Process) end() {
	p.Kill()
	if strings.Contains(p.Log(), "WARNING: DATA RACE") {
		p.t.Errorf("%s has a data race", p.name)
	}
	if p.t.Failed() {
		p.t.Logf("output of %s (%s):\n%s", p.name, filepath.Base(p.cmd.Path), p.Log())
	}
}

// Log returns the output so far: standard output and standard error, unless cmd redirects them.
func (p *Process) Log() string { return p.log.String() }

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Running reports whether the program is running.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the program, unless it has ended.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("send %s to %s: %v", s, p.name, err)
	}
}

// Kill sends SIGKILL and waits for the end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it can only have ended
	<-p.exited
}

// Stop sends SIGTERM, waits for the end, and returns the exit code, or -1 if a signal ended it.
func (p *Process) Stop() int {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	return p.Wait()
}

// Wait waits for the end and returns the exit code, or -1 if a signal ended it.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(polltest.Patience):
		p.t.Fatalf("%s has not ended after %s", p.name, polltest.Patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// A Buffer is a [bytes.Buffer] that can be read while it is written. Its zero value is empty.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements [io.Writer].
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
