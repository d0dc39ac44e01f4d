package backplane_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy is a TCP proxy that can stall, as a link does that is cut without anybody being told, or slow down.
type proxy struct {
	url      string
	listener net.Listener
	target   string

	mu    sync.Mutex
	free  *sync.Cond
	stall bool
	pace  time.Duration // between chunks of 4 KiB
	conns map[net.Conn]bool
	done  bool
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{url: "http://" + l.Addr().String(), listener: l, target: target, conns: map[net.Conn]bool{}}
	p.free = sync.NewCond(&p.mu)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.carry(in) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.done = true
		for c := range p.conns {
			_ = c.Close()
		}
		p.free.Broadcast()
		p.mu.Unlock()
		running.Wait()
	})
	return p
}

// set stalls or frees the link, or slows it down.
func (p *proxy) set(stall bool, pace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stall, p.pace = stall, pace
	p.free.Broadcast()
}

func (p *proxy) carry(in net.Conn) {
	out, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = in.Close()
		return
	}
	p.mu.Lock()
	p.conns[in], p.conns[out] = true, true
	p.mu.Unlock()
	for _, c := range []net.Conn{in, out} {
		_ = c.(*net.TCPConn).SetReadBuffer(32 << 10)
		_ = c.(*net.TCPConn).SetWriteBuffer(32 << 10)
	}
	var both sync.WaitGroup
	both.Go(func() { p.copy(out, in) })
	both.Go(func() { p.copy(in, out) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, in)
	delete(p.conns, out)
	p.mu.Unlock()
}

func (p *proxy) copy(to, from net.Conn) {
	defer func() {
		_ = to.Close()
		_ = from.Close()
	}()
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		if err != nil && err != io.EOF || n == 0 {
			return
		}
		p.mu.Lock()
		for p.stall && !p.done {
			p.free.Wait()
		}
		pace, done := p.pace, p.done
		p.mu.Unlock()
		if done {
			return
		}
		if pace > 0 {
			time.Sleep(pace) // this is the slow link itself
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// cut ends all connections over the link.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}
