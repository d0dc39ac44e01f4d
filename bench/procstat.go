//go:build linux

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// cpuOf adds up the user and system time of the processes, ended threads included. Each process's CPU clock counts in
// nanoseconds; utime and stime of /proc/<pid>/stat count the same in ticks of 10 ms.
func cpuOf(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		t, err := cpuClock(pid)
		if err != nil {
			return 0, fmt.Errorf("read CPU time of process %d: %w", pid, err)
		}
		sum += t
	}
	return sum, nil
}

// cpuClock reads the clock that clock_getcpuclockid(3) names: the pid's complement above three
// bits that say "process, scheduler's count".
func cpuClock(pid int) (time.Duration, error) {
	var ts syscall.Timespec
	id := int32(^pid)<<3 | 2
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(id), uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		return 0, errno
	}
	return time.Duration(ts.Nano()), nil
}

// rssOf adds up the resident memory of the processes in bytes. Shared pages are divided among the processes (Pss), so
// that nginx's workers do not count several times.
func rssOf(pids []int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, fmt.Errorf("read memory: %w", err)
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
				n, err := strconv.ParseInt(f[1], 10, 64)
				if err != nil {
					return 0, fmt.Errorf("odd memory in smaps_rollup: %w", err)
				}
				sum += n << 10
			}
		}
	}
	return sum, nil
}

// withChildren adds the processes' children (nginx's workers).
func withChildren(pids ...int) []int {
	all := append([]int(nil), pids...)
	for i := 0; i < len(all); i++ {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", all[i], all[i]))
		if err != nil {
			continue
		}
		for _, f := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// machineBusy is the time that all cores together have worked for any process.
func machineBusy() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var busy int64
	for i, f := range strings.Fields(line) {
		// cpu user nice system idle iowait irq softirq steal …: idle and iowait are no work
		if n, err := strconv.ParseInt(f, 10, 64); err == nil && i != 4 && i != 5 && i <= 8 {
			busy += n
		}
	}
	return time.Duration(busy) * 10 * time.Millisecond // USER_HZ is 100 on every Linux
}
