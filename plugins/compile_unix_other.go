//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package plugins

import (
	"os/exec"
	"syscall"
)

// isolateChild gives the child a process group of its own, for its priority and so that a terminal's signals do not
// reach it. Its limits end it should this process end first.
func isolateChild(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
