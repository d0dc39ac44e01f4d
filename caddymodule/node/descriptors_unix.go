//go:build unix

package node

import (
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxDescriptors returns the number of file descriptors that this process may open, or 0 without a limit. The Go
// runtime has raised the soft limit to the hard limit.
func maxDescriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return 0
	}
	return int(limit.Cur)
}

// countDescriptors returns how many of the file descriptors in [from, to) are open.
func countDescriptors(from, to int) int {
	used := 0
	fds := make([]unix.PollFd, min(to-from, 1024))
	for ; from < to; from += len(fds) {
		fds = fds[:min(len(fds), to-from)]
		for i := range fds {
			fds[i] = unix.PollFd{Fd: int32(from + i)}
		}
		for {
			if _, err := unix.Poll(fds, 0); err == nil {
				break
			} else if err != unix.EINTR && err != unix.EAGAIN {
				return used + to - from // as if none were left
			}
		}
		for _, f := range fds {
			if f.Revents&unix.POLLNVAL == 0 {
				used++
			}
		}
	}
	return used
}
