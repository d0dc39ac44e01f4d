//go:build linux && !386

package netpoll

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// epoll is an epoll instance beside the runtime's, which can report a socket only to a goroutine that waits. Such a
// goroutine is a third of the cost of a connection at rest.
type epoll struct {
	mu      sync.Mutex
	file    *os.File // nil before the first connection
	fd      int      // of file
	conns   []*Conn  // by descriptor
	watched int      // connections that have been added and not removed
	closing bool     // file is closed when watched is 0
}

// open creates the epoll instance and starts run. e.mu is held.
func (e *epoll) open() error {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return fmt.Errorf("epoll: %w", err)
	}
	// An epoll instance can itself be polled: the runtime's poller watches ours, and no thread blocks.
	file := os.NewFile(uintptr(fd), "epoll")
	raw, err := file.SyscallConn()
	if err == nil {
		err = file.SetReadDeadline(time.Time{}) // fails if the runtime does not poll the file
	}
	if err != nil {
		_ = file.Close()
		return fmt.Errorf("epoll: %w", err)
	}
	e.file, e.fd = file, fd
	go e.run(raw)
	return nil
}

// run wakes the connections that the kernel reports.
func (e *epoll) run(raw syscall.RawConn) {
	var events [128]syscall.EpollEvent
	var conns [len(events)]*Conn
	// The runtime calls the function whenever there may be events, and again for an event after the last EpollWait.
	_ = raw.Read(func(uintptr) (done bool) {
		for {
			n, err := syscall.EpollWait(e.fd, events[:], 0)
			if err == syscall.EINTR {
				continue
			}
			e.mu.Lock()
			for i, event := range events[:max(n, 0)] {
				// The descriptor may have a new owner by now, which then finds nothing to read.
				conns[i] = e.conns[event.Fd]
			}
			e.mu.Unlock()
			for i, c := range conns[:max(n, 0)] {
				if c != nil {
					c.wake(events[i].Events&hangUpEvents != 0)
				}
				conns[i] = nil
			}
			if n < len(events) {
				return false
			}
		}
	})
}

// add watches a connection whose socket is open.
func (e *epoll) add(c *Conn) error {
	e.mu.Lock()
	if e.closing {
		e.mu.Unlock()
		return net.ErrClosed
	}
	if e.file == nil {
		if err := e.open(); err != nil { // the next connection tries again
			e.mu.Unlock()
			return err
		}
	}
	if grow := int(c.fd) + 1 - len(e.conns); grow > 0 {
		e.conns = append(e.conns, make([]*Conn, grow)...)
	}
	e.conns[c.fd] = c
	e.watched++
	e.mu.Unlock()
	event := syscall.EpollEvent{
		Events: syscall.EPOLLIN | syscall.EPOLLPRI | syscall.EPOLLRDHUP | edgeTriggered,
		Fd:     c.fd,
	}
	if err := syscall.EpollCtl(e.fd, syscall.EPOLL_CTL_ADD, int(c.fd), &event); err != nil {
		e.remove(c)
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// hangUpEvents announce an end of the stream, or an urgent byte.
const hangUpEvents = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR | syscall.EPOLLPRI

// edgeTriggered is EPOLLET, which package syscall declares with the wrong sign.
const edgeTriggered = 1 << 31

// remove forgets a connection, as the kernel does when the socket is closed. Each connection is removed once.
func (e *epoll) remove(c *Conn) {
	e.mu.Lock()
	if at := int(c.fd); at < len(e.conns) && e.conns[at] == c {
		e.conns[at] = nil
	}
	e.watched--
	file := e.takeUnused()
	e.mu.Unlock()
	_ = file.Close()
}

func (e *epoll) close() {
	e.mu.Lock()
	e.closing = true
	file := e.takeUnused()
	e.mu.Unlock()
	_ = file.Close()
}

// takeUnused returns the file if the caller must close the file, nil if not. e.mu is held, and must be released before
// Close, which waits for run.
func (e *epoll) takeUnused() *os.File {
	if !e.closing || e.watched > 0 {
		return nil
	}
	file := e.file
	e.file = nil
	return file
}

// watch reports whether the poller will wake the connection.
func (c *Conn) watch() bool {
	if c.fd == noFD {
		return false
	}
	c.Lock()
	defer c.Unlock()
	if c.closed { // another connection may have the descriptor by now
		return true
	}
	// The kernel may have no room for more watches (fs.epoll.max_user_watches).
	c.watched = c.poller.epoll.add(c) == nil
	return c.watched
}

// tryRead reads available bytes, and returns errWouldBlock if there are none. Only the rest of a TLS record is waited
// for. drained means that the socket is empty now.
func (c *Conn) tryRead(b []byte) (n int, drained bool, err error) {
	t, secure := c.net.(*tls.Conn)
	if secure && c.poller.tls.holds(t) {
		return readTLS(t, b)
	}
	c.Lock()
	switch {
	case c.closed:
		err = net.ErrClosed
	case secure:
		var one [1]byte
		_, err = receive(c.fd, one[:], syscall.MSG_PEEK)
	default:
		n, err = receive(c.fd, b, 0)
	}
	c.Unlock()
	if !secure {
		return n, n < len(b), err // a short read was the last: epoll(7) under "EPOLLET"
	}
	switch err {
	case nil:
		return readTLS(t, b)
	case errWouldBlock:
		c.poller.tls.shrink(t)
	}
	return 0, false, err
}

func readTLS(t *tls.Conn, b []byte) (n int, drained bool, err error) {
	if n, err = t.Read(b); n > 0 { // an error beside bytes is sticky, and holds reports it
		err = nil
	}
	return n, false, err
}
