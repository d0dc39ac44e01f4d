package testkit

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP link to a server that can stall silently, slow down and break. Its methods may be called from several
// goroutines.
type Proxy struct {
	// Addr is the host:port to connect to.
	Addr string

	up, down Relay
	running  sync.WaitGroup

	mu      sync.Mutex
	to      string
	changed *sync.Cond
	stalled bool
	delay   time.Duration
	conns   map[net.Conn]bool
	closed  bool
	// accepted counts the connections. Those with a number below frozenUp or frozenDown pass no bytes in that
	// direction.
	accepted, frozenUp, frozenDown int
}

// Relay writes the bytes b to the other side, unchanged or not. The connections of a proxy are numbered from 0. Each
// has a goroutine per direction.
type Relay func(conn int, b []byte, to io.Writer)

const (
	socketBuffer = 32 << 10 // bytes; a stalled link fills soon
	pieceSize    = 4 << 10  // bytes that pass at once
	relayedSize  = 1 << 20  // the same for a Relay
)

// StartProxy starts a link to a host:port, or to the path of a Unix socket. It ends with the test.
func StartProxy(t testing.TB, to string) *Proxy {
	t.Helper()
	return StartRelay(t, to, nil, nil)
}

// StartRelay is StartProxy with functions for the bytes of clients (up) and of the server (down). Without a function
// the bytes pass unchanged.
func StartRelay(t testing.TB, to string, up, down Relay) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp4", Loopback(FreePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), to: to, up: up, down: down, conns: map[net.Conn]bool{}}
	p.changed = sync.NewCond(&p.mu)
	p.running.Go(func() {
		for n := 0; ; n++ {
			in, err := l.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.serve(n, in) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.changed.Broadcast()
		p.Cut()
		p.running.Wait()
	})
	return p
}

// Stall holds all bytes back in both directions until Resume. Connections are still accepted.
func (p *Proxy) Stall() { p.set(true, 0) }

// Resume ends a stall or a delay; the bytes held back pass.
func (p *Proxy) Resume() { p.set(false, 0) }

// Slow ends a stall, and delays each piece of at most 4 KiB, for each direction of each connection.
func (p *Proxy) Slow(delay time.Duration) { p.set(false, delay) }

func (p *Proxy) set(stalled bool, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled, p.delay = stalled, delay
	p.changed.Broadcast()
}

// Freeze holds back all bytes of the connections that stand, in the given directions and for good: up are the bytes of
// clients, down those of the server. Later connections are not concerned.
func (p *Proxy) Freeze(up, down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if up {
		p.frozenUp = p.accepted
	}
	if down {
		p.frozenDown = p.accepted
	}
}

// Redirect leads new connections to another server. Those that stand stay.
func (p *Proxy) Redirect(to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = to
}

// Cut ends all connections over the link.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// serve serves one connection.
func (p *Proxy) serve(n int, in net.Conn) {
	defer in.Close()
	p.mu.Lock()
	to := p.to
	p.accepted = n + 1
	p.mu.Unlock()
	network := "tcp"
	if strings.HasPrefix(to, "/") {
		network = "unix"
	}
	out, err := net.Dial(network, to)
	if err != nil {
		return
	}
	defer out.Close()
	for _, c := range []net.Conn{in, out} {
		socket := c.(interface {
			SetReadBuffer(bytes int) error
			SetWriteBuffer(bytes int) error
		})
		_ = socket.SetReadBuffer(socketBuffer)
		_ = socket.SetWriteBuffer(socketBuffer)
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.conns[in], p.conns[out] = true, true
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.copy(n, out, in, p.up, &p.frozenUp) })
	both.Go(func() { p.copy(n, in, out, p.down, &p.frozenDown) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, in)
	delete(p.conns, out)
	p.mu.Unlock()
}

// copy serves one direction. The end of one direction ends the other direction, too.
func (p *Proxy) copy(n int, to, from net.Conn, relay Relay, frozen *int) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, pieceSize)
	if relay != nil {
		buf = make([]byte, relayedSize)
	}
	for {
		size, readErr := from.Read(buf)
		if !p.wait(n, frozen) {
			return
		}
		var writeErr error
		switch {
		case size == 0:
		case relay != nil:
			relay(n, buf[:size], to)
		default:
			_, writeErr = to.Write(buf[:size])
		}
		if readErr != nil || writeErr != nil {
			return
		}
	}
}

// wait returns when bytes may pass. It returns false at the end of the test.
func (p *Proxy) wait(n int, frozen *int) bool {
	p.mu.Lock()
	for (p.stalled || n < *frozen) && !p.closed {
		p.changed.Wait()
	}
	delay, closed := p.delay, p.closed
	p.mu.Unlock()
	if delay > 0 && !closed {
		time.Sleep(delay) // the slowness of the link
	}
	return !closed
}
