//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// crowdOrder is a command to a crowd process, a JSON line. Each is answered by a JSON line, a crowdAnswer.
type crowdOrder struct {
	// Do is connect (opens all clients), idle (counts pings from now on), event (waits for an event), state (reports
	// the counts) or gone (waits until the server has closed every client).
	Do string `json:"do"`
	// Targets are the addresses, and the number of clients for each.
	Targets []crowdTarget `json:"targets,omitempty"`
	// Parallel is the number of connects in flight.
	Parallel int `json:"parallel,omitempty"`
	// Source is the number of the first source address, in 127.1.0.0/16.
	Source int `json:"source,omitempty"`
	// StallMS ends a wait without progress.
	StallMS int64 `json:"stall_ms,omitempty"`
}

// crowdTarget is a node, and the number of clients that connect to the node.
type crowdTarget struct {
	Addr    string `json:"addr"`
	Clients int    `json:"clients"`
}

// crowdAnswer is the counts of a crowd process.
type crowdAnswer struct {
	Error string `json:"error,omitempty"`
	Open  int    `json:"open"`
	// Pings is the number of pings since the order idle, Fewest the number that the client with the fewest got, and
	// Lump the most in a tenth of a second.
	Pings  int64 `json:"pings"`
	Fewest int   `json:"fewest"`
	Lump   int64 `json:"lump"`
	// Events is the number of clients that have the event, Doubled the number of second copies.
	Events  int64 `json:"events"`
	Doubled int64 `json:"doubled"`
	// Last is the time of the last event or close frame, in Unix microseconds.
	Last    int64     `json:"last"`
	Latency histogram `json:"latency"`
	// Closed counts close frames by code; the code 0 is an end without a close frame.
	Closed map[int]int64 `json:"closed"`
}

// crowdClient is one of very many idle clients: 12 bytes, beside the kernel's memory.
type crowdClient struct {
	fd    int32
	state crowdState
	pings uint8
	event bool
	code  uint16 // of the server's close frame
}

// crowdState is the phase of a client.
type crowdState uint8

const (
	crowdIdle       crowdState = iota // not connected yet
	crowdConnecting                   // the TCP handshake is in flight
	crowdUpgrading                    // waits for the 101 response and the greeting
	crowdJoining                      // waits for groups_current
	crowdOpen
	crowdClosed
)

// crowd is many clients on one thread: one epoll instance, one buffer, no goroutine and no buffer for a client. Only an
// incomplete frame is kept, in rest.
type crowd struct {
	mu      sync.Mutex // held for a whole epoll batch
	epoll   int
	clients []crowdClient
	next    int // the client that connects next
	source  int
	targets []crowdTarget
	request [][]byte // by target
	rest    map[int][]byte
	buf     []byte

	parallel int
	failed   error
	changed  chan struct{} // signals progress, capacity 1

	open, ended int
	pings       int64
	slot, inNow int64 // tenth of a second, and the pings in it
	answer      crowdAnswer
}

// crowdMain is the hidden subcommand of a crowd process.
func crowdMain() error {
	if _, err := maxFiles(); err != nil {
		return err
	}
	return crowdServe(os.Stdin, os.Stdout)
}

// crowdServe executes orders until the input ends.
func crowdServe(from io.Reader, to io.Writer) error {
	fd, err := syscall.EpollCreate1(0)
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	c := &crowd{epoll: fd, rest: map[int][]byte{}, buf: make([]byte, 64<<10), changed: make(chan struct{}, 1)}
	c.answer.Closed = map[int]int64{}
	go func() {
		runtime.LockOSThread()
		c.loop()
	}()
	in, out := json.NewDecoder(bufio.NewReader(from)), json.NewEncoder(to)
	for {
		var o crowdOrder
		if err := in.Decode(&o); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read order: %w", err)
		}
		if err := out.Encode(c.execute(&o)); err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
	}
}

func (c *crowd) execute(o *crowdOrder) crowdAnswer {
	stall := time.Duration(o.StallMS) * time.Millisecond
	switch o.Do {
	case "connect":
		c.begin(o)
		c.wait(stall, func() int { return c.open }, func() int { return len(c.clients) })
	case "idle":
		c.mu.Lock()
		c.pings, c.answer.Lump, c.slot, c.inNow = 0, 0, 0, 0
		for i := range c.clients {
			c.clients[i].pings = 0
		}
		c.mu.Unlock()
	case "event":
		c.wait(stall, func() int { return int(c.answer.Events) + c.ended }, func() int { return len(c.clients) })
	case "gone":
		c.wait(stall, func() int { return c.ended }, func() int { return len(c.clients) })
	}
	return c.snapshot()
}

func (c *crowd) snapshot() crowdAnswer {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.answer
	a.Open, a.Pings, a.Fewest = c.open-c.ended, c.pings, 255
	for i := range c.clients {
		a.Fewest = min(a.Fewest, int(c.clients[i].pings))
	}
	if c.failed != nil {
		a.Error = c.failed.Error()
	}
	return a
}

// wait returns when progress reaches goal, after a failure, or when nothing has changed for stall.
func (c *crowd) wait(stall time.Duration, progress, goal func() int) {
	tick := time.NewTicker(stall)
	defer tick.Stop()
	for last := -1; ; {
		c.mu.Lock()
		now, done := progress(), progress() >= goal() || c.failed != nil
		c.mu.Unlock()
		if done {
			return
		}
		select {
		case <-c.changed:
		case <-tick.C:
			if now == last {
				return
			}
			last = now
		}
	}
}

func (c *crowd) signal() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// begin starts the first connects. Each connect that ends starts another.
func (c *crowd) begin(o *crowdOrder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, t := range o.Targets {
		n += t.Clients
		c.request = append(c.request, []byte("GET /websocket/ HTTP/1.1\r\nHost: "+t.Addr+"\r\nUpgrade: websocket\r\n"+
			"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+wsKey+"\r\nOrigin: http://"+t.Addr+
			"\r\nCookie: csrftoken=x\r\n\r\n"))
	}
	c.targets, c.source, c.parallel = o.Targets, o.Source, o.Parallel
	c.clients = make([]crowdClient, n)
	for range min(n, c.parallel) {
		c.dialNext()
	}
}

// targetOf returns the index of client i's target.
func (c *crowd) targetOf(i int) int {
	for t := range c.targets {
		if i -= c.targets[t].Clients; i < 0 {
			return t
		}
	}
	return len(c.targets) - 1
}

// dialNext begins the next client's connect. c.mu is held.
func (c *crowd) dialNext() {
	if c.next == len(c.clients) || c.failed != nil {
		return
	}
	i := c.next
	c.next++
	if err := c.dial(i); err != nil {
		c.failed = fmt.Errorf("client %d: %w", i, err)
		c.signal()
	}
}

// dial begins a connect that does not block.
func (c *crowd) dial(i int) error {
	to, err := net.ResolveTCPAddr("tcp4", c.targets[c.targetOf(i)].Addr)
	if err != nil {
		return fmt.Errorf("resolve: %w", err)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipBindAddressNoPort, 1)
	source := c.source + i/clientsPerSource
	from := &syscall.SockaddrInet4{Addr: [4]byte{127, 1, byte(source / 250), byte(source%250 + 1)}}
	if err := syscall.Bind(fd, from); err != nil {
		return fmt.Errorf("bind %v: %w", from.Addr, err)
	}
	c.clients[i] = crowdClient{fd: int32(fd), state: crowdConnecting}
	err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())})
	if err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		return fmt.Errorf("connect %s: %w", to, err)
	}
	e := syscall.EpollEvent{Events: syscall.EPOLLOUT, Fd: int32(i)}
	if err := syscall.EpollCtl(c.epoll, syscall.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// loop serves the clients' sockets forever.
func (c *crowd) loop() {
	events := make([]syscall.EpollEvent, 512)
	for {
		n, err := syscall.EpollWait(c.epoll, events, -1)
		if err != nil && err != syscall.EINTR {
			panic(fmt.Sprintf("epoll wait: %v", err)) // the harness reports the end of this process
		}
		c.mu.Lock()
		for _, e := range events[:max(n, 0)] {
			if i := int(e.Fd); c.clients[i].state == crowdConnecting {
				c.upgrade(i)
			} else {
				c.read(i)
			}
		}
		c.mu.Unlock()
		c.signal()
	}
}

// upgrade sends the handshake's request after the connect.
func (c *crowd) upgrade(i int) {
	fd := int(c.clients[i].fd)
	if errno, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR); err != nil || errno != 0 {
		c.failed = fmt.Errorf("client %d: connect: %w", i, syscall.Errno(errno))
		return
	}
	c.clients[i].state = crowdUpgrading
	e := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(i)}
	if err := syscall.EpollCtl(c.epoll, syscall.EPOLL_CTL_MOD, fd, &e); err != nil {
		c.failed = fmt.Errorf("client %d: watch socket: %w", i, err)
		return
	}
	rawWrite(fd, c.request[c.targetOf(i)])
}

// rawWrite writes a few bytes to an empty socket, which accepts all of them.
func rawWrite(fd int, b []byte) {
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
		uintptr(len(b)))
}
