package harness

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Process is a program that a test started.
type Process struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	log    *buffer
	exited chan struct{} // closed when it has ended
}

// Start starts cmd and waits until ready, called time and again, returns nil; where ready is
// nil it does not wait. name is what the test's output calls it. It is killed when the test
// ends; where the test failed, its output is shown.
func Start(t testing.TB, name string, cmd *exec.Cmd, ready func() error) *Process {
	t.Helper()
	p := &Process{t: t, name: name, cmd: cmd, log: new(buffer), exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	tie(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.exited)
		_ = cmd.Wait() // how it ended is in ProcessState
	}()
	t.Cleanup(p.end)
	if ready != nil {
		p.await(ready)
	}
	return p
}

func (p *Process) await(ready func() error) {
	p.t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		err := ready()
		if err == nil {
			return
		}
		if !p.Running() {
			p.t.Fatalf("%s ended before it was ready: %s", p.name, p.cmd.ProcessState)
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s is not ready after %s: %v", p.name, Patience, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (p *Process) end() {
	p.Kill()
	if p.t.Failed() {
		p.t.Logf("output of %s (%s):\n%s", p.name, filepath.Base(p.cmd.Path), p.Log())
	}
}

// Log returns what it wrote so far, on both outputs.
func (p *Process) Log() string { return p.log.String() }

// Pid returns its process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Running reports whether it has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Signal sends it a signal.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("send %s to %s: %v", s, p.name, err)
	}
}

// Kill ends it at once, with SIGKILL.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // the only error is that it has ended
	<-p.exited
}

// Stop sends SIGTERM, waits for the end, and returns the exit code; -1 where a signal ended it.
func (p *Process) Stop() int {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	return p.Wait()
}

// Wait waits for the end and returns the exit code; -1 where a signal ended it.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(Patience):
		p.t.Fatalf("%s has not ended after %s", p.name, Patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// A buffer is a bytes.Buffer that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
