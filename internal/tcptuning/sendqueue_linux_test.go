package tcptuning_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/tcptuning"
)

// pair returns both ends of a connection.
func pair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	c, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Close(), accepted.Close() })
	return c.(*net.TCPConn), accepted.(*net.TCPConn)
}

// fill writes until the kernel takes no more, and returns the number of bytes that it took.
func fill(t *testing.T, c *net.TCPConn) (written int) {
	t.Helper()
	_ = c.SetWriteBuffer(512 << 10)
	if err := c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := c.Write(make([]byte, 32<<10))
		written += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return written
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// The other side gets the bytes that were sent, and none of those that count as unsent.
func TestAbortTellsUnsentBytes(t *testing.T) {
	for range 20 {
		near, far := pair(t)
		written := fill(t, near)
		queue, exact := tcptuning.Abort(near)
		if !exact {
			t.Fatalf("%+v: the queue has changed meanwhile", queue)
		}
		got, err := io.Copy(io.Discard, far)
		if err == nil {
			t.Error("the connection has ended without a reset")
		}
		if int(got) > written-queue.Unsent || int(got) < written-queue.Unacknowledged || queue.Unsent == 0 {
			t.Errorf("%d bytes arrived of %d written, with %+v", got, written, queue)
		}
	}
}

// While the other side reads as fast as it can, the queue moves all the time.
func TestAbortWhileBytesFlow(t *testing.T) {
	exactly := 0
	for range 50 {
		near, far := pair(t)
		arrived := make(chan int64)
		begun := make(chan struct{})
		go func() {
			first, _ := io.CopyN(io.Discard, far, 1<<20)
			close(begun)
			n, _ := io.Copy(io.Discard, far)
			arrived <- first + n
		}()
		written := make(chan int64)
		go func() {
			n, _ := near.ReadFrom(endless{})
			written <- n
		}()
		<-begun
		queue, exact := tcptuning.Abort(near)
		total, got := <-written, <-arrived
		if !exact {
			continue
		}
		exactly++
		if got > total-int64(queue.Unsent) {
			t.Errorf("%d bytes arrived of %d written, with %+v", got, total, queue)
		}
	}
	t.Logf("exact in %d of 50 runs", exactly)
}

func TestQueuedIsEmptyOnceAcknowledged(t *testing.T) {
	near, far := pair(t)
	if _, err := near.Write([]byte("one event")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, make([]byte, 9)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		queue, ok := tcptuning.Queued(near)
		if ok && queue == (tcptuning.SendQueue{}) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %v", queue, ok)
		}
	}
}

// endless is zeros without end.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }
