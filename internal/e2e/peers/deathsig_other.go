//go:build !linux

package peers

import "os/exec"

func dieWithUs(*exec.Cmd) {}
