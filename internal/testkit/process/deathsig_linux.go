package process

import (
	"os/exec"
	"syscall"
)

// dieWithUs lets the kernel kill the process when the test binary ends without its cleanups, such as after a timeout.
func dieWithUs(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
