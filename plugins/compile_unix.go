//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package plugins

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
)

// childPriority is the niceness of a compilation, so that it does not compete with events.
const childPriority = 10

// limitProcess limits the resources of this process, for good, and lowers its priority.
func limitProcess(l Limits) error {
	for _, r := range []struct {
		resource int
		value    uint64
	}{
		{syscall.RLIMIT_CPU, uint64(l.CPU / time.Second)},
		{syscall.RLIMIT_DATA, uint64(l.Memory)},
		{syscall.RLIMIT_FSIZE, maxCodeFile},
		{syscall.RLIMIT_CORE, 0},
	} {
		// Equal limits: the kernel ends the process at the hard limit, and Go ignores the signal of the soft one.
		if err := setLimit(r.resource, r.value); err != nil {
			return fmt.Errorf("limit the process: %w", err)
		}
	}
	// Of the process group: the priority of a process is that of one thread. A refusal does no harm.
	_ = syscall.Setpriority(syscall.PRIO_PGRP, 0, childPriority)
	if runtime.GOOS == "linux" { // should memory run out, the kernel ends this process first
		_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	}
	return nil
}

// setLimit sets both limits of a resource, or leaves a hard limit that is lower already.
func setLimit(resource int, value uint64) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(resource, &l); err != nil {
		return err
	}
	lower(&l.Max, value)
	l.Cur = l.Max
	return syscall.Setrlimit(resource, &l)
}

// lower sets *limit to value if that is less. The type depends on the system.
func lower[T int64 | uint64](limit *T, value uint64) {
	if uint64(*limit) > value {
		*limit = T(value)
	}
}

// isShortage reports whether the system lacks processes or memory at the moment.
func isShortage(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.EMFILE) ||
		errors.Is(err, syscall.ENFILE)
}
