package backplane

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// newPair returns an outbox before one end of a pipe, which takes only what is read from the other.
func newPair(t *testing.T, silence time.Duration) (*outbox, net.Conn) {
	near, far := net.Pipe()
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	out := (&Backplane{}).newOutbox()
	out.silence = func() time.Duration { return silence }
	out.conn = near
	return out, far
}

func TestOutboxTakesWithoutWaiting(t *testing.T) {
	out, far := newPair(t, time.Minute)
	one := make([]byte, 1000)
	n := 0
	for ; out.acceptsPing(t.Context(), nil); n++ { // nobody reads
		if _, err := out.Write(one); err != nil {
			t.Fatal(err)
		}
	}
	if most := maxQueuedForPong / len(one); n < most || n > 2*(most+1) { // as much again is being written
		t.Errorf("%d pings are answered to a peer who takes no answer", n)
	}
	flushed := make(chan error)
	go func() { flushed <- out.flush() }()
	if _, err := io.CopyN(io.Discard, far, int64(n*len(one))); err != nil {
		t.Fatal(err)
	}
	if err := <-flushed; err != nil {
		t.Fatal(err)
	}
	if !out.acceptsPing(t.Context(), nil) {
		t.Error("what was taken still waits")
	}
}

func TestOutboxHolds(t *testing.T) {
	out, far := newPair(t, time.Minute)
	got := make(chan string)
	go func() {
		b := make([]byte, 100)
		n, _ := far.Read(b)
		got <- string(b[:n])
	}()
	out.hold()
	for _, part := range []string{"one ", "write"} {
		if _, err := out.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.flush(); err != nil {
		t.Fatal(err)
	}
	if text := <-got; text != "one write" {
		t.Errorf("the first read gives %q", text)
	}
}

func TestOutboxGivesUp(t *testing.T) {
	out, far := newPair(t, 20*time.Millisecond)
	if _, err := out.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := out.flush(); !errors.Is(err, errStalled) {
		t.Errorf("flush: %v", err)
	}
	if _, err := out.Write([]byte("x")); !errors.Is(err, errStalled) {
		t.Errorf("write: %v", err)
	}
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection is open: %v", err)
	}
}

// What waits when the connection is closed is still written, unless that takes long.
func TestOutboxCloses(t *testing.T) {
	out, far := newPair(t, time.Minute)
	out.hold()
	if _, err := out.Write([]byte("bye")); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(far); err != nil || string(b) != "bye" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := out.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write: %v", err)
	}

	out, far = newPair(t, time.Minute)
	if _, err := out.Write([]byte("to nobody")); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err := out.flush(); err == nil {
		t.Error("written to nobody")
	}
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection is open: %v", err)
	}
}
