//go:build !unix

package cli

import (
	"os/exec"
	"time"
)

// endWithGroup makes a command end with its context.
func endWithGroup(cmd *exec.Cmd) { cmd.WaitDelay = time.Second }

// interruptGroup ends a command.
func interruptGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
