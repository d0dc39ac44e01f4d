//go:build linux && !386

package netpoll

import (
	"net"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// recorder is an owner that reports what it reads.
type recorder struct {
	Conn
	received chan string
	ended    chan error
}

func (r *recorder) ReadReady(scratch []byte) {
	for drained := false; ; {
		n, last, err := r.ReadOrRest(scratch, drained)
		if err != nil {
			r.Release()
			r.ended <- err
			return
		}
		if n == 0 {
			return
		}
		r.received <- string(scratch[:n])
		drained = last
	}
}

func (r *recorder) FlushSoon() { go func() { _ = r.Flush() }() }

func (*recorder) Progress(int) {}

func newRecorder() *recorder {
	return &recorder{received: make(chan string, 64), ended: make(chan error, 1)}
}

// want waits for text, in however many pieces it arrives.
func (r *recorder) want(t *testing.T, text string) {
	t.Helper()
	for got := ""; got != text; {
		select {
		case piece := <-r.received:
			got += piece
		case err := <-r.ended:
			t.Fatalf("ended with %v after %q, want %q", err, got, text)
		case <-time.After(testkit.Patience):
			t.Fatalf("received %q, want %q", got, text)
		}
	}
}

func (r *recorder) wantEnd(t *testing.T) {
	t.Helper()
	select {
	case <-r.ended:
	case <-time.After(testkit.Patience):
		t.Fatal("the connection goes on")
	}
}

// tcpPair returns both ends of a TCP connection.
func tcpPair(t testing.TB) (server, client net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = server.Close(), client.Close() })
	return server, client
}

// The kernel may report the previous user of a descriptor. Then there is nothing to read, and the connection rests
// again.
func TestSpuriousWakeup(t *testing.T) {
	p, r := New(), newRecorder()
	defer p.Close()
	server, client := tcpPair(t)
	p.Attach(&r.Conn, server, r)
	if !r.Start(false) {
		t.Fatal("a TCP connection is not polled")
	}
	for i := range 1000 {
		r.wake(i%2 == 0)
		r.wake(i%3 == 0)
	}
	testkit.Eventually(t, "rest", func() bool { return r.activity.Load() == 0 })
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	r.want(t, "hello")
	_ = client.Close()
	r.wantEnd(t)
	if r.wake(true); r.activity.Load()&released == 0 {
		t.Error("woken after the end")
	}
}
