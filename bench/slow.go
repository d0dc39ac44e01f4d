//go:build linux

package main

import (
	"syscall"
	"time"
)

const (
	// slowRate is in bytes per second.
	slowRate = 1024
	// slowRoom is the receive buffer of a slow reader; Linux doubles the value. With default buffers, which grow to
	// megabytes, the kernel would hold the queue instead of the server.
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
			// The content does not matter, so frames may be cut anywhere. Pings are not answered.
			n, err := syscall.Read(c.fd, buf)
			if n == 0 || err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
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
