package proctest

import (
	"os/exec"
	"syscall"
)

// killWithParent has the kernel kill the program when the test binary ends without its clean-up,
// as at a timeout.
func killWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
