//go:build linux

package main

import (
	"syscall"
	"time"
)

const (
	// slowRate is how many bytes a second a slow reader takes.
	slowRate = 1024
	// slowRoom is what its kernel takes in advance (twice that, for Linux doubles it): with the usual buffers, which grow to megabytes, it would be
	// the kernel that waits for the reader, and not the server.
	slowRoom = 2048
	// slowTick is the time between two reads.
	slowTick = 100 * time.Millisecond
)

// dribble reads the slow readers' sockets, a little at a time, until all of them are closed.
func (r *receiver) dribble() {
	buf := make([]byte, slowRate/int(time.Second/slowTick))
	for range time.Tick(slowTick) {
		open := 0
		r.mu.Lock()
		for i := range r.clients {
			c := &r.clients[i]
			if !c.slow || c.fd < 0 {
				continue
			}
			open++
			// What it reads is of no interest, so frames may be cut anywhere. Pings are not answered.
			if n, err := syscall.Read(c.fd, buf); n == 0 || err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
				_ = syscall.Close(c.fd)
				c.fd, c.closed = -1, true
			}
		}
		r.mu.Unlock()
		if open == 0 {
			return
		}
	}
}
