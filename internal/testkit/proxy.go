package testkit

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP link to a server that can stall without anybody being told. Its methods may be called from several goroutines.
type Proxy struct {
	// Addr is the host:port to connect to.
	Addr string

	to      string
	running sync.WaitGroup

	mu      sync.Mutex
	free    *sync.Cond
	stalled bool
	delay   time.Duration
	conns   map[net.Conn]bool
	closed  bool
}

// StartProxy starts a link to a host:port. It ends with the test.
func StartProxy(t testing.TB, to string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp4", Loopback(FreePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), to: to, conns: map[net.Conn]bool{}}
	p.free = sync.NewCond(&p.mu)
	p.running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.carry(in) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.closed = true
		p.free.Broadcast()
		for c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.running.Wait()
	})
	return p
}

// Stall holds everything up, both ways, until Resume. Connections are still accepted.
func (p *Proxy) Stall() { p.set(true, 0) }

// Resume lets everything pass that was held up, and what comes.
func (p *Proxy) Resume() { p.set(false, 0) }

// Slow lets a piece of at most 4 KiB pass, each way and connection, once in the time given.
func (p *Proxy) Slow(delay time.Duration) { p.set(false, delay) }

func (p *Proxy) set(stalled bool, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled, p.delay = stalled, delay
	p.free.Broadcast()
}

// carry serves one connection.
func (p *Proxy) carry(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp4", p.to)
	if err != nil {
		return
	}
	defer out.Close()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.conns[in], p.conns[out] = true, true
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.copy(out, in) })
	both.Go(func() { p.copy(in, out) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, in)
	delete(p.conns, out)
	p.mu.Unlock()
}

// copy carries one direction; when it ends, so does the other.
func (p *Proxy) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		for p.stalled && !p.closed {
			p.free.Wait()
		}
		delay := p.delay
		p.mu.Unlock()
		if delay > 0 {
			<-time.After(delay) // the link's slowness itself
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
