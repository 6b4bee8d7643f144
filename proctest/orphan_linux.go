package proctest

import (
	"os/exec"
	"syscall"
)

// killWithParent makes the kernel kill the program when the test binary ends without cleaning up,
// as after a timeout.
func killWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
