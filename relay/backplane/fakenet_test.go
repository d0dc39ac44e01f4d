package backplane_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// fakeNet is a network in memory for tests in a bubble of synctest: its connections buffer bytes as kernels do, and
// break in the ways of real ones.
type fakeNet struct {
	mu        sync.Mutex
	listeners map[string]*fakeListener
	wires     map[*wire]bool
	down      map[string]bool // addresses, of which nothing arrives
}

func newFakeNet() *fakeNet {
	return &fakeNet{listeners: map[string]*fakeListener{}, wires: map[*wire]bool{}, down: map[string]bool{}}
}

// wire is one connection. Its address is the one that was dialed.
type wire struct {
	net     *fakeNet
	address string
	ends    [2]*fakeConn
}

// breakage is a way in which a connection ends.
type breakage int

const (
	reset  breakage = iota // unread bytes are gone
	finish                 // each side can read what was sent
)

// wireBuffer is the number of bytes in one direction that were sent and not read.
const wireBuffer = 64 << 10

type fakeListener struct {
	net     *fakeNet
	address string
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

type fakeAddr string

func (fakeAddr) Network() string  { return "fake" }
func (a fakeAddr) String() string { return string(a) }

func (n *fakeNet) listen(address string) *fakeListener {
	l := &fakeListener{net: n, address: address, conns: make(chan net.Conn, 100), closed: make(chan struct{})}
	n.mu.Lock()
	n.listeners[address] = l
	n.mu.Unlock()
	return l
}

func (l *fakeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *fakeListener) Addr() net.Addr { return fakeAddr(l.address) }
func (l *fakeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }

func (n *fakeNet) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	l, down := n.listeners[address], n.down[address]
	n.mu.Unlock()
	if down {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(3 * time.Second):
			return nil, errors.New("no answer")
		}
	}
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	w := &wire{net: n, address: address}
	for i := range w.ends {
		w.ends[i] = &fakeConn{wire: w, side: i}
		w.ends[i].ready.L = &n.mu
	}
	n.mu.Lock()
	n.wires[w] = true
	n.mu.Unlock()
	select {
	case l.conns <- w.ends[1]:
		return w.ends[0], nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	}
}

// list returns the open connections to an address.
func (n *fakeNet) list(address string) (wires []*wire) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for w := range n.wires {
		if w.address == address {
			wires = append(wires, w)
		}
	}
	return wires
}

// cut breaks a connection.
func (w *wire) cut(how breakage) {
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	for _, c := range w.ends {
		c.broken = true
		if how == reset || w.net.down[w.address] {
			c.unread = nil
		}
		c.ready.Broadcast()
	}
	delete(w.net.wires, w)
}

// stall makes an address unreachable, or reachable again: what is on the way arrives then.
func (n *fakeNet) stall(address string, down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down[address] = down
	for w := range n.wires {
		for _, c := range w.ends {
			c.ready.Broadcast()
		}
	}
}

// fakeConn is one end of a connection. net.mu guards its fields.
type fakeConn struct {
	wire     *wire
	side     int
	ready    sync.Cond
	unread   []byte // by this side
	broken   bool   // the connection has ended
	closed   bool   // by this side
	deadline [2]time.Time
	timers   [2]*time.Timer
}

func (c *fakeConn) peer() *fakeConn { return c.wire.ends[1-c.side] }
func (c *fakeConn) late(i int) bool {
	return !c.deadline[i].IsZero() && !time.Now().Before(c.deadline[i])
}

func (c *fakeConn) Read(b []byte) (int, error) {
	c.wire.net.mu.Lock()
	defer c.wire.net.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.late(0):
			return 0, os.ErrDeadlineExceeded
		case len(c.unread) > 0 && !c.wire.net.down[c.wire.address]:
			n := copy(b, c.unread)
			c.unread = c.unread[n:]
			c.peer().ready.Broadcast()
			return n, nil
		case c.broken:
			return 0, io.EOF
		}
		c.ready.Wait()
	}
}

func (c *fakeConn) Write(b []byte) (sent int, err error) {
	c.wire.net.mu.Lock()
	defer c.wire.net.mu.Unlock()
	to := c.peer()
	for len(b) > 0 {
		switch room := wireBuffer - len(to.unread); {
		case c.closed:
			return sent, net.ErrClosed
		case c.broken:
			return sent, syscall.EPIPE
		case c.late(1):
			return sent, os.ErrDeadlineExceeded
		case room > 0:
			n := min(room, len(b))
			to.unread = append(to.unread, b[:n]...)
			b, sent = b[n:], sent+n
			to.ready.Broadcast()
			continue
		}
		c.ready.Wait()
	}
	return sent, nil
}

// Close ends the connection; the other side can read what was sent, unless that is on the way.
func (c *fakeConn) Close() error {
	c.wire.cut(finish)
	c.wire.net.mu.Lock()
	c.closed, c.unread = true, nil
	for _, t := range c.timers {
		if t != nil {
			t.Stop()
		}
	}
	c.ready.Broadcast()
	c.wire.net.mu.Unlock()
	return nil
}

func (c *fakeConn) LocalAddr() net.Addr  { return fakeAddr(c.wire.address) }
func (c *fakeConn) RemoteAddr() net.Addr { return fakeAddr("10.0.0.1:1") }

func (c *fakeConn) setDeadline(i int, t time.Time) {
	c.wire.net.mu.Lock()
	defer c.wire.net.mu.Unlock()
	c.deadline[i] = t
	if c.timers[i] != nil {
		c.timers[i].Stop()
	}
	if !t.IsZero() {
		c.timers[i] = time.AfterFunc(time.Until(t), func() {
			c.wire.net.mu.Lock()
			c.ready.Broadcast()
			c.wire.net.mu.Unlock()
		})
	}
	c.ready.Broadcast()
}

func (c *fakeConn) SetDeadline(t time.Time) error {
	c.setDeadline(0, t)
	c.setDeadline(1, t)
	return nil
}
func (c *fakeConn) SetReadDeadline(t time.Time) error  { c.setDeadline(0, t); return nil }
func (c *fakeConn) SetWriteDeadline(t time.Time) error { c.setDeadline(1, t); return nil }
