//go:build linux

package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// target is the address of a system and the role of the clients that connect to it.
type target struct {
	Addr    string  `json:"addr"` // 127.0.0.1:port
	Path    string  `json:"path"`
	Group   string  `json:"group"`
	Dialect dialect `json:"dialect"`
	TLS     bool    `json:"tls"`
	// Socket is the path of a Unix socket to connect to, "" for Addr.
	Socket string `json:"socket,omitempty"`
	// Before is sent before anything else.
	Before []byte `json:"before,omitempty"`
	// Spread is the number of groups that events are spread over; 0 and 1: all events in Group. See spread.go.
	Spread int `json:"spread,omitempty"`
	Of     int `json:"of,omitempty"`    // clients of the whole fleet
	First  int `json:"first,omitempty"` // place in the fleet of this receiver's first client
	// Users is the number of users that the clients belong to; 0: none.
	Users int `json:"users,omitempty"`
	// Since is the position from which the clients resume, "" if they do not.
	Since string `json:"since,omitempty"`
	// Deflate makes the clients offer compression. Together is the number of groups that each client is in; 0: Group.
	Deflate  bool `json:"deflate,omitempty"`
	Together int  `json:"together,omitempty"`
	// Slow is the number of this receiver's clients that read slowly; they are its last ones. See slow.go.
	Slow int `json:"slow,omitempty"`
}

// dialTimeout bounds one client's connect, handshake and subscribe. Daphne needs 3 ms per client, one after another,
// so a batch of clients waits.
const dialTimeout = 60 * time.Second

// clientsPerSource stays well below the 28,000 ports of one source address.
const clientsPerSource = 10_000

// connect opens n clients, parallel at a time, and adds them to the poll. firstSource is the last byte of the first
// source address, 127.0.0.<firstSource>.
func (r *receiver) connect(t target, n, parallel, firstSource int) error {
	r.mu.Lock()
	base := len(r.clients)
	r.clients = append(r.clients, make([]client, n)...)
	r.step = t.step()
	for i := base; i < base+n; i++ {
		r.clients[i] = client{fd: -1, next: firstSeq + int64(t.First+i-base)%r.step, slow: i >= base+n-t.Slow}
	}
	r.slow += t.Slow
	r.wrapped, r.streams = t.Dialect == dialectEvents, t.Dialect.isStream()
	r.mu.Unlock()
	err := r.openAll(t, base, n, parallel, firstSource)
	if t.Slow > 0 {
		go r.dribble()
	}
	return err
}

// openAll opens n clients, beginning with the client base.
func (r *receiver) openAll(t target, base, n, parallel, firstSource int) error {
	var (
		wg    sync.WaitGroup
		once  sync.Once
		first error
		queue = make(chan int, n)
	)
	for i := range n {
		queue <- base + i
	}
	close(queue)
	for range min(parallel, n) {
		wg.Go(func() {
			for i := range queue {
				if err := r.open(t, i, t.First+i-base, firstSource+i/clientsPerSource); err != nil {
					once.Do(func() { first = fmt.Errorf("client %d of %d: %w", i+1, n, err) })
					for range queue { // stops the other goroutines
					}
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

// open connects client i, which is the place-th of the fleet.
func (r *receiver) open(t target, i, place, source int) error {
	room := 0
	if r.clients[i].slow {
		room = slowRoom
	}
	fd, err := t.dial(source, room)
	if err != nil {
		return err
	}
	if t.TLS {
		return r.openTLS(t, i, place, fd)
	}
	rest, err := open(fdConn(fd), t, place)
	if err != nil {
		_ = syscall.Close(fd)
		return err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("make socket non-blocking: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clients[i].fd = fd
	r.clients[i].rest = append([]byte(nil), r.consume(i, rest)...)
	if r.clients[i].slow {
		return nil
	}
	e := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(i)}
	if err := syscall.EpollCtl(r.epoll, syscall.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// openTLS hands the socket to Go's TLS and reads it in a goroutine. That costs the receiver more CPU, which no result
// includes.
func (r *receiver) openTLS(t target, i, place, fd int) error {
	_ = syscall.SetNonblock(fd, true)
	f := os.NewFile(uintptr(fd), "client")
	raw, err := net.FileConn(f) // duplicates fd
	_ = f.Close()
	if err != nil {
		return fmt.Errorf("socket to conn: %w", err)
	}
	host, _, _ := net.SplitHostPort(t.Addr)
	conn := tls.Client(raw, &tls.Config{ServerName: host, InsecureSkipVerify: true})
	_ = conn.SetDeadline(time.Now().Add(dialTimeout))
	rest, err := open(conn, t, place)
	if err != nil {
		_ = conn.Close()
		return err
	}
	_ = conn.SetDeadline(time.Time{})
	r.mu.Lock()
	r.secure[&r.clients[i]] = conn
	rest = append([]byte(nil), r.consume(i, rest)...)
	r.mu.Unlock()
	go r.readTLS(i, conn, rest)
	return nil
}

func (r *receiver) readTLS(i int, conn net.Conn, kept []byte) {
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		r.mu.Lock()
		if n > 0 {
			kept = append([]byte(nil), r.consume(i, append(kept, buf[:n]...))...)
		}
		if err != nil {
			if r.secure[&r.clients[i]] == conn { // not after the client has hung up
				r.hangUp(&r.clients[i], "")
			}
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
	}
}

// dial connects a blocking socket and sends t.Before.
func (t *target) dial(source, room int) (fd int, err error) {
	if t.Socket == "" {
		fd, err = dial(t.Addr, source, room)
	} else {
		fd, err = dialUnix(t.Socket)
	}
	if err != nil || len(t.Before) == 0 {
		return fd, err
	}
	if _, err := fdConn(fd).Write(t.Before); err != nil {
		_ = syscall.Close(fd)
		return -1, fmt.Errorf("write before the handshake: %w", err)
	}
	return fd, nil
}

// dialUnix connects a blocking socket to a Unix socket.
func dialUnix(path string) (int, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		_ = syscall.Close(fd)
		return -1, fmt.Errorf("connect %s: %w", path, err)
	}
	return fd, nil
}

// ipBindAddressNoPort is IP_BIND_ADDRESS_NO_PORT of linux/in.h. The kernel then selects the port at connect, when the
// destination is known, so that one port can serve several servers.
const ipBindAddressNoPort = 24

// dial connects a blocking socket from 127.0.0.<source> to addr. room is the size of the receive buffer, 0: the
// kernel's default.
func dial(addr string, source, room int) (int, error) {
	to, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return -1, fmt.Errorf("resolve %s: %w", addr, err)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipBindAddressNoPort, 1)
	if room > 0 {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, room)
	}
	tv := syscall.NsecToTimeval(int64(dialTimeout))
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tv)
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &tv)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(source)}}); err != nil {
		_ = syscall.Close(fd)
		return -1, fmt.Errorf("bind 127.0.0.%d: %w", source, err)
	}
	sa := &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}
	err = syscall.Connect(fd, sa)
	for err == syscall.EINTR { // continues the same connect
		err = syscall.Connect(fd, sa)
	}
	if err != nil && err != syscall.EISCONN {
		_ = syscall.Close(fd)
		return -1, fmt.Errorf("connect %s: %w", addr, err)
	}
	return fd, nil
}

// fdConn reads and writes a blocking socket.
type fdConn int

func (c fdConn) Read(b []byte) (int, error) {
	for {
		n, err := syscall.Read(int(c), b)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return 0, os.ErrDeadlineExceeded
		case err != nil:
			return 0, err
		case n == 0:
			return 0, fmt.Errorf("closed by the server")
		}
		return n, nil
	}
}

func (c fdConn) Write(b []byte) (int, error) {
	for {
		n, err := syscall.Write(int(c), b)
		if err != syscall.EINTR {
			return n, err
		}
	}
}
