package harness

import (
	"os/exec"
	"syscall"
)

// tie lets a test binary that ends without its clean-up, as at a timeout, take what it started
// with it.
func tie(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
