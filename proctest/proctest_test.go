package proctest_test

import (
	"os/exec"
	"strings"
	"testing"

	"extauthz/polltest"
	"extauthz/proctest"
)

func TestProcess(t *testing.T) {
	sh := func(script string) *exec.Cmd { return exec.Command("sh", "-c", script) }
	t.Run("exit code and both outputs", func(t *testing.T) {
		p := proctest.Start(t, "sh", sh("echo out; echo err >&2; exit 3"), nil)
		if code := p.Wait(); code != 3 || p.Running() || p.Log() != "out\nerr\n" {
			t.Errorf("exit code %d, running: %t, output %q", code, p.Running(), p.Log())
		}
	})
	t.Run("stop", func(t *testing.T) {
		p := proctest.Start(t, "sh", sh("trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done"), nil)
		polltest.Until(t, "the program is up", func() bool { return p.Log() == "up\n" })
		if code := p.Stop(); code != 5 {
			t.Errorf("exit code %d", code)
		}
		p.Kill() // a process that has ended
	})
	t.Run("killed", func(t *testing.T) {
		p := proctest.Start(t, "sleep", exec.Command("sleep", "60"), nil)
		if p.Kill(); p.Running() || p.Wait() != -1 {
			t.Errorf("running: %t, exit code %d", p.Running(), p.Wait())
		}
	})
	t.Run("environment", func(t *testing.T) {
		cmd := sh("echo $NAME $GORACE")
		cmd.Env = []string{"NAME=value"}
		p := proctest.Start(t, "sh", cmd, nil)
		if p.Wait(); strings.TrimSpace(p.Log()) != "value atexit_sleep_ms=0" {
			t.Errorf("%q", p.Log())
		}
	})
	t.Run("data race", func(t *testing.T) {
		f := &failing{TB: t}
		p := proctest.Start(f, "sh", sh("echo WARNING: DATA RACE"), nil)
		p.Wait()
		for _, clean := range f.cleanups {
			clean()
		}
		if !f.failed {
			t.Error("the test does not fail")
		}
	})
}

// failing is a testing.TB whose failure does not fail the test.
type failing struct {
	testing.TB
	failed   bool
	cleanups []func()
}

func (f *failing) Cleanup(clean func())  { f.cleanups = append(f.cleanups, clean) }
func (f *failing) Errorf(string, ...any) { f.failed = true }
func (f *failing) Failed() bool          { return false }
