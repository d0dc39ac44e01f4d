//go:build linux

package main

import (
	"net"
	"testing"
	"time"
)

// numbered is an event with a chosen sequence number, as a server's frame.
func numbered(seq int64) []byte {
	s := &source{next: seq}
	s.resize(100)
	return appendServerFrame(nil, opText, s.event())
}

// fakeReceiver has n clients without sockets.
func fakeReceiver(n int) *receiver {
	r := &receiver{sample: 1, step: 1, done: make(chan struct{})}
	for range n {
		r.clients = append(r.clients, client{fd: -1, next: firstSeq})
	}
	return r
}

func TestReceiverCountsLostAndDoubled(t *testing.T) {
	for name, c := range map[string]struct {
		seqs          []int64
		lost, doubled int64
	}{
		"in order":   {[]int64{0, 1, 2, 3}, 0, 0},
		"one lost":   {[]int64{0, 2, 3}, 1, 0},
		"doubled":    {[]int64{0, 1, 1, 2, 3}, 0, 1},
		"swapped":    {[]int64{0, 2, 1, 3}, 1, 1},
		"first lost": {[]int64{1, 2, 3}, 1, 0},
	} {
		r := fakeReceiver(1)
		r.begin(firstSeq+3, 1)
		for _, n := range c.seqs {
			r.consume(0, numbered(firstSeq+n))
		}
		got := r.wait(time.Minute) // the last event has come: returns at once
		if got.Lost != c.lost || got.Doubled != c.doubled || got.Behind != 0 || got.Messages != int64(len(c.seqs)) {
			t.Errorf("%s: %d lost, %d doubled, %d behind, %d messages", name, got.Lost, got.Doubled, got.Behind,
				got.Messages)
		}
	}
}

func TestReceiverTellsWhoIsBehind(t *testing.T) {
	r := fakeReceiver(2)
	r.begin(firstSeq, 1)
	r.consume(0, numbered(firstSeq))
	if got := r.wait(10 * time.Millisecond); got.Behind != 1 || got.Messages != 1 {
		t.Errorf("%d behind, %d messages, want 1 and 1", got.Behind, got.Messages)
	}
	r.consume(1, appendServerFrame(nil, opClose, []byte{0x03, 0xf3}))
	if got := r.snapshot(); got.Closed != 1 || got.Error == "" {
		t.Errorf("%d closed, %q, want the closed client told", got.Closed, got.Error)
	}
}

func TestReceiverJoinsCutFrames(t *testing.T) {
	r := fakeReceiver(1)
	r.begin(firstSeq+9, 1)
	var stream []byte
	for i := range int64(10) {
		stream = append(stream, numbered(firstSeq+i)...)
	}
	var rest []byte
	for len(stream) > 0 { // seven bytes at a time
		n := min(7, len(stream))
		rest = append([]byte(nil), r.consume(0, append(rest, stream[:n]...))...)
		stream = stream[n:]
	}
	if got := r.wait(time.Minute); got.Messages != 10 || got.Lost != 0 || len(rest) != 0 {
		t.Errorf("%d messages, %d lost, %d bytes left", got.Messages, got.Lost, len(rest))
	}
}

// TestReceiverAgainstBareLoop runs the real receiver against the real bare loop over real sockets.
func TestReceiverAgainstBareLoop(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var b bareLoop
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go b.serve(conn)
		}
	}()
	r, err := newReceiver()
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = r.loop() }()
	at := target{Addr: ln.Addr().String(), Path: "/websocket/", Group: benchGroup, Dialect: dialectAWX}
	if err := r.connect(at, 50, 8, 1); err != nil {
		t.Fatal(err)
	}
	const events = 400
	r.begin(firstSeq+events-1, 1)
	here, there := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- b.fanOut(there) }()
	s := newSource()
	s.resize(2048)
	for range events {
		if _, err := here.Write(append(s.event(), '\n')); err != nil {
			t.Fatal(err)
		}
	}
	got := r.wait(10 * time.Second)
	if got.Messages != 50*events || got.Lost+got.Doubled+got.Behind+got.Closed != 0 || got.Bytes != 50*events*2048 ||
		got.Latency.Count != 50*events {
		t.Errorf("%d messages, %d bytes, %d lost, %d doubled, %d behind, %d closed %s", got.Messages, got.Bytes,
			got.Lost, got.Doubled, got.Behind, got.Closed, got.Error)
	}
	here.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
