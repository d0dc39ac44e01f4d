//go:build unix

package caddymodule

import (
	"math"
	"syscall"
)

// openFiles is how many file descriptors this process may have, 0 if there is no limit. Go has raised the soft limit to the hard one.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return 0
	}
	return int(limit.Cur)
}
