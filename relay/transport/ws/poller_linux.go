//go:build linux && !386

package ws

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// poller wakes connections that are at rest. It is one epoll instance beside the runtime's, which can tell of a socket only to a
// goroutine that waits, and that is a third of what a connection at rest costs.
type poller struct {
	mu    sync.Mutex
	epoll *os.File // nil before the first connection
	fd    int      // of epoll
	conns []*Conn  // by the number of their socket
}

// thePoller runs from the first connection on, for as long as the process lives.
var thePoller poller

// open makes the epoll instance and runs the poller. p.mu is held.
func (p *poller) open() error {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return fmt.Errorf("epoll: %w", err)
	}
	// An epoll instance can itself be waited for: the runtime's wakes ours, and no thread waits.
	epoll := os.NewFile(uintptr(fd), "epoll")
	raw, err := epoll.SyscallConn()
	if err == nil {
		err = epoll.SetReadDeadline(time.Time{}) // fails where the runtime does not wait for it
	}
	if err != nil {
		_ = epoll.Close()
		return fmt.Errorf("epoll: %w", err)
	}
	p.epoll, p.fd = epoll, fd
	go p.run(raw)
	return nil
}

// run wakes connections of which the kernel tells something.
func (p *poller) run(epoll syscall.RawConn) {
	var events [128]syscall.EpollEvent
	var conns [len(events)]*Conn
	// Called whenever there may be events. One that comes behind the last look calls it again.
	_ = epoll.Read(func(uintptr) (done bool) {
		for {
			n, err := syscall.EpollWait(p.fd, events[:], 0)
			if err == syscall.EINTR {
				continue
			}
			p.mu.Lock()
			for i, e := range events[:max(n, 0)] {
				// It may be another's by now who got the same number, and then finds nothing to read.
				conns[i] = p.conns[e.Fd]
			}
			p.mu.Unlock()
			for i, c := range conns[:max(n, 0)] {
				if c != nil {
					c.wake(events[i].Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR|syscall.EPOLLPRI) != 0)
				}
				conns[i] = nil
			}
			if n < len(events) {
				return false
			}
		}
	})
}

// add has a connection woken whenever something comes. The socket is open.
func (p *poller) add(c *Conn) error {
	p.mu.Lock()
	if p.epoll == nil {
		if err := p.open(); err != nil { // the next connection tries again
			p.mu.Unlock()
			return err
		}
	}
	if grow := int(c.watched) + 1 - len(p.conns); grow > 0 {
		p.conns = append(p.conns, make([]*Conn, grow)...)
	}
	p.conns[c.watched] = c
	p.mu.Unlock()
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLPRI | syscall.EPOLLRDHUP | edgeTriggered, Fd: c.watched}
	if err := syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_ADD, int(c.watched), &event); err != nil {
		p.remove(c)
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// edgeTriggered is EPOLLET, which package syscall has with the wrong sign.
const edgeTriggered = 1 << 31

// remove forgets a connection. The kernel does when the socket is closed.
func (p *poller) remove(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := int(c.watched); at < len(p.conns) && p.conns[at] == c {
		p.conns[at] = nil
	}
}

// watch reports whether the poller will wake the connection.
func (c *Conn) watch() bool {
	if c.watched == noSocket {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == finished { // the number may be another's by now
		return true
	}
	if err := thePoller.add(c); err != nil { // the kernel has no room for more (fs.epoll.max_user_watches): a goroutine waits then
		c.watched = noSocket
		return false
	}
	return true
}

func (c *Conn) unwatch() {
	if c.watched != noSocket {
		thePoller.remove(c)
	}
}

// readNow reads what is there, without waiting for more than the rest of a TLS record: errNothing if that is nothing. It may know that
// this was all there is.
func (c *Conn) readNow(b []byte) (n int, all bool, err error) {
	t, secure := c.net.(*tls.Conn)
	if secure && tlsHolds(t) {
		return readTLS(t, b)
	}
	c.mu.Lock()
	switch {
	case c.state == finished:
		err = net.ErrClosed
	case secure:
		var one [1]byte
		_, err = receiveNow(c.watched, one[:], syscall.MSG_PEEK)
	default:
		n, err = receiveNow(c.watched, b, 0)
	}
	c.mu.Unlock()
	if !secure {
		return n, n < len(b), err // if less than was asked for, it was all: epoll(7) under "EPOLLET"
	}
	switch err {
	case nil:
		return readTLS(t, b)
	case errNothing:
		shrinkTLS(t)
	}
	return 0, false, err
}

func readTLS(t *tls.Conn, b []byte) (n int, all bool, err error) {
	if n, err = t.Read(b); n > 0 { // an error with bytes comes again, and tlsHolds tells of it
		err = nil
	}
	return n, false, err
}

// socketUnderTLS returns the number of the socket that a TLS connection goes over, if it can be told whether the connection holds
// bytes that have been read from it.
func socketUnderTLS(conn net.Conn) int32 {
	t, ok := conn.(*tls.Conn)
	if !ok || !tlsTells {
		return noSocket
	}
	return socketOf(t.NetConn())
}
