//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// tally is a receiver's counts since the last begin.
type tally struct {
	Messages int64     `json:"messages"`  // events, all clients together
	Bytes    int64     `json:"bytes"`     // payload bytes of these
	Wire     int64     `json:"wire"`      // bytes of their frames
	Lost     int64     `json:"lost"`      // sequence numbers that a client never saw
	Doubled  int64     `json:"doubled"`   // sequence numbers seen again or late
	Closed   int64     `json:"closed"`    // disconnected clients
	Behind   int64     `json:"behind"`    // clients that have not seen the awaited event
	Last     int64     `json:"last"`      // Unix microseconds of the last read
	SlowEnds int64     `json:"slow_ends"` // disconnected slow readers
	Answers  int64     `json:"answers"`   // groups_current
	Resumed  int64     `json:"resumed"`   // subscriptions with "recovered": true
	Error    string    `json:"error,omitempty"`
	Latency  histogram `json:"latency"`
}

// add puts o's counts into t.
func (t *tally) add(o *tally) {
	t.Messages += o.Messages
	t.Bytes += o.Bytes
	t.Wire += o.Wire
	t.Lost += o.Lost
	t.Doubled += o.Doubled
	t.Closed += o.Closed
	t.Behind += o.Behind
	t.Last = max(t.Last, o.Last)
	t.SlowEnds += o.SlowEnds
	t.Answers += o.Answers
	t.Resumed += o.Resumed
	if t.Error == "" {
		t.Error = o.Error
	}
	t.Latency.add(&o.Latency)
}

// client is one open WebSocket: 56 bytes, and a buffer only while a frame is incomplete.
type client struct {
	fd     int
	next   int64  // sequence number that must come next
	rest   []byte // an incomplete frame
	closed bool
	slow   bool   // read by dribble; measurements do not wait for it
	state  *state // nil before the first compressed message
}

// receiver reads many WebSockets with one thread: level-triggered epoll, one read of up to readSize bytes per turn,
// every complete frame counted in place.
type receiver struct {
	mu       sync.Mutex // held for a whole epoll batch, so that orders see no batch half done
	epoll    int
	clients  []client
	tally    tally
	sample   int64  // a latency is recorded where (client + sequence number) % sample == 0
	until    int64  // sequence number that ends the measurement
	reached  int    // clients that have received that event
	wrapped  bool   // events are in frames with positions
	streams  bool   // of events, in place of frames
	position []byte // of the last event, if wrapped
	step     int64  // between a client's sequence numbers
	slow     int    // slow readers, which measurements do not wait for
	done     chan struct{}
	secure   map[*client]net.Conn // under TLS
	answers  chan struct{}        // closed at the awaited number of answers
	awaited  int64
	inflater inflater
}

const readSize = 256 << 10

func newReceiver() (*receiver, error) {
	fd, err := syscall.EpollCreate1(0)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &receiver{epoll: fd, sample: 1, step: 1, done: make(chan struct{}), secure: map[*client]net.Conn{}}, nil
}

// begin resets the counts; the measurement ends when every client has the event until.
func (r *receiver) begin(until, sample int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally = tally{}
	r.sample = max(sample, 1)
	r.await(until)
}

// cut ends the running measurement with the event until.
func (r *receiver) cut(until int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.await(until)
}

// await counts the clients that already have the event until. r.mu is held.
func (r *receiver) await(until int64) {
	r.until, r.reached, r.done = until, 0, make(chan struct{})
	for i := range r.clients {
		if c := &r.clients[i]; c.next > until && !c.slow {
			r.reached++
		}
	}
	if r.reached == len(r.clients)-r.slow {
		close(r.done)
	}
}

// wait returns the counts when every client has the awaited event, or when nothing has arrived for stall.
func (r *receiver) wait(stall time.Duration) tally {
	r.mu.Lock()
	done := r.done
	seen := r.tally.Messages
	r.mu.Unlock()
	tick := time.NewTicker(stall)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return r.snapshot()
		case <-tick.C:
			now := r.snapshot()
			if now.Messages == seen {
				return now
			}
			seen = now.Messages
		}
	}
}

func (r *receiver) snapshot() tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tally
	t.Behind = int64(len(r.clients) - r.slow - r.reached)
	for i := range r.clients {
		switch c := &r.clients[i]; {
		case c.closed && c.slow:
			t.SlowEnds++
		case c.closed:
			t.Closed++
		}
	}
	return t
}

// loop reads forever; run it on a thread of its own.
func (r *receiver) loop() error {
	buf := make([]byte, readSize+64<<10)
	events := make([]syscall.EpollEvent, 512)
	for {
		n, err := syscall.EpollWait(r.epoll, events, -1)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("epoll wait: %w", err)
		}
		r.mu.Lock()
		for _, e := range events[:n] {
			r.read(int(e.Fd), buf)
		}
		r.mu.Unlock()
	}
}

// read reads client i's socket. e.Fd of an epoll event is i.
func (r *receiver) read(i int, buf []byte) {
	c := &r.clients[i]
	kept := copy(buf, c.rest)
	if len(buf)-kept < readSize/2 { // an event longer than the spare room
		buf = append(buf[:kept:kept], make([]byte, readSize)...)
	}
	n, err := rawRead(c.fd, buf[kept:])
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return
	}
	if n <= 0 {
		r.hangUp(c, "")
		return
	}
	left := r.consume(i, buf[:kept+n])
	c.rest = append(c.rest[:0], left...)
	if len(left) == 0 && cap(c.rest) > 0 {
		c.rest = nil
	}
}

// rawRead bypasses the scheduler's bookkeeping: the socket never blocks.
func rawRead(fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
		uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// consume counts client i's complete frames in b and returns the rest. The caller holds mu.
func (r *receiver) consume(i int, b []byte) []byte {
	c := &r.clients[i]
	now := time.Now().UnixMicro()
	r.tally.Last = now
	if r.streams {
		return r.consumeStream(i, b, now)
	}
	for {
		f, n, err := parseFrame(b)
		if err != nil {
			r.hangUp(c, err.Error())
			return nil
		}
		if n == 0 {
			return b
		}
		b = b[n:]
		switch f.op {
		case opText:
			if f.compressed {
				if c.state, err = r.inflater.message(c.state, f.payload); err != nil {
					r.hangUp(c, err.Error())
					return nil
				}
				f.payload = c.state.text
			}
			r.event(i, c, f.payload, now, n)
		case opPing:
			r.send(c, appendClientFrame(nil, opPong, f.payload))
		case opClose:
			code := 1005
			if len(f.payload) >= 2 {
				code = int(binary.BigEndian.Uint16(f.payload))
			}
			r.hangUp(c, fmt.Sprintf("closed by the server: %d %.100q", code, f.payload[min(2, len(f.payload)):]))
			return nil
		}
	}
}

// event counts an event, whose frame has some bytes.
func (r *receiver) event(i int, c *client, payload []byte, now int64, frame int) {
	if r.wrapped {
		event, ok := r.unwrap(payload)
		if !ok {
			r.answer(payload)
			return
		}
		payload = event
	}
	seq, micros, ok := parseEvent(payload)
	if !ok {
		r.answer(payload)
		return
	}
	if c.slow {
		return
	}
	r.tally.Messages++
	r.tally.Bytes += int64(len(payload))
	r.tally.Wire += int64(frame)
	if seq < c.next {
		r.tally.Doubled++
		return
	}
	r.tally.Lost += (seq - c.next) / r.step
	if c.next <= r.until && seq+r.step > r.until {
		if r.reached++; r.reached == len(r.clients)-r.slow {
			close(r.done)
		}
	}
	c.next = seq + r.step
	if (int64(i)+seq)%r.sample == 0 {
		r.tally.Latency.record(now - micros)
	}
}

// send writes a control frame. A full socket loses the frame, which the server's own timeouts notice.
func (r *receiver) send(c *client, b []byte) {
	if c.fd >= 0 {
		_, _ = syscall.Write(c.fd, b)
	}
}

func (r *receiver) hangUp(c *client, why string) {
	if c.closed {
		return
	}
	c.closed = true
	if c.slow {
		why = ""
	}
	if why != "" && r.tally.Error == "" {
		r.tally.Error = why
	}
	if c.fd >= 0 {
		_ = syscall.EpollCtl(r.epoll, syscall.EPOLL_CTL_DEL, c.fd, nil)
		_ = syscall.Close(c.fd)
		c.fd = -1
	}
	if conn := r.secure[c]; conn != nil {
		_ = conn.Close()
		delete(r.secure, c)
	}
}
