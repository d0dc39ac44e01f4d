//go:build linux && !386

package netpoll

import (
	"runtime"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// Two pollers share nothing. A closed poller serves open connections and leaves no goroutine: see TestMain.
func TestCloseServesOpenConnections(t *testing.T) {
	p, other := New(), New()
	defer other.Close()
	server, client := tcpPair(t)
	otherServer, otherClient := tcpPair(t)
	r, o := newRecorder(), newRecorder()
	p.Attach(&r.Conn, server, r)
	other.Attach(&o.Conn, otherServer, o)
	if !r.Start(false) || !o.Start(false) {
		t.Fatal("a TCP connection is not polled")
	}
	p.Close()
	for _, text := range []string{"one", "two"} {
		_, _ = client.Write([]byte(text))
		r.want(t, text)
		_, _ = otherClient.Write([]byte(text))
		o.want(t, text)
	}
	_ = client.Close()
	r.wantEnd(t)
	testkit.Eventually(t, "no descriptor of a closed poller", func() bool {
		p.epoll.mu.Lock()
		defer p.epoll.mu.Unlock()
		return p.epoll.file == nil
	})

	late := newRecorder()
	lateServer, _ := tcpPair(t)
	if p.Attach(&late.Conn, lateServer, late); late.Start(false) {
		t.Error("a closed poller watches a connection")
	}
	_ = otherClient.Close()
	o.wantEnd(t)
}

// Up to four readers per processor stay for the next message. GOMAXPROCS is read again for each message.
func TestIdleReadersFollowGOMAXPROCS(t *testing.T) {
	was := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(was)
	p := New()
	defer p.Close()
	burst := func(n int) { // n readers at once
		release := make(chan struct{})
		started := make(chan struct{}, n)
		for range n {
			c := &Conn{owner: blocker{started, release}, poller: p}
			p.dispatch(c)
		}
		for range n {
			<-started
		}
		close(release)
	}
	idle := func(want int32) {
		t.Helper()
		testkit.Eventually(t, "idle readers as GOMAXPROCS allows", func() bool { return p.idle.Load() == want })
	}
	runtime.GOMAXPROCS(4)
	burst(40)
	idle(16)
	runtime.GOMAXPROCS(1)
	burst(40)
	idle(4)
}

// blocker is an owner whose reads block until they are released.
type blocker struct{ started, release chan struct{} }

func (b blocker) ReadReady([]byte) {
	b.started <- struct{}{}
	<-b.release
}

func (blocker) FlushSoon() {}

func (blocker) Progress(int) {}
