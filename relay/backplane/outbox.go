package backplane

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/internal/tcptuning"
	"github.com/edgerelay/edgerelay/relay"
)

const (
	// writeBytes bounds one write to a connection.
	writeBytes = 32 << 10
	// maxQueuedForPong bounds the bytes queued for a peer whose pings are still answered.
	maxQueuedForPong = 1 << 20
	// slowWrite is the shortest duration of a write that had to wait for the peer to read.
	slowWrite = 10 * time.Millisecond
	// maxPooledBytes is the largest buffer that is reused.
	maxPooledBytes = 256 << 10
)

// outboxPhase is the treatment of writes to an outbox.
type outboxPhase uint8

const (
	outboxDirect  outboxPhase = iota // writes leave at once
	outboxHeld                       // writes are queued until flush
	outboxClosing                    // queued bytes still leave; further writes fail
	outboxFailed                     // a write has failed; the connection is closed

	outboxPhases // the number of phases
)

// outboxSignal moves an outbox from one phase to the next.
type outboxSignal uint8

const (
	outboxHold outboxSignal = iota
	outboxFlush
	outboxClose
	outboxFail

	outboxSignals // the number of signals
)

// next returns the phase that follows p on a signal.
func (p outboxPhase) next(s outboxSignal) outboxPhase {
	switch {
	case s == outboxFail:
		return outboxFailed
	case p == outboxFailed || p == outboxClosing:
		return p
	case s == outboxClose:
		return outboxClosing
	case s == outboxHold:
		return outboxHeld
	}
	return outboxDirect
}

// outbox buffers the writes of a WebSocket, so that they never wait for the peer to read. Package websocket answers
// pings from the reading goroutine, under the lock of the writers. Without an outbox, two nodes that ping each other
// over a connection that is full in both directions would each wait for the other to read.
//
// Written bytes leave at once or, after hold, with flush.
// See docs/decisions/backplane.md#why-do-a-links-writes-wait-in-an-outbox
type outbox struct {
	conn    io.ReadWriteCloser
	silence func() time.Duration // limit of a write without progress
	tune    func(net.Conn)       // sets the options of the socket
	// lastProgress is the time in relay.Ticks at which the peer last sent bytes or read some.
	lastProgress atomic.Int64
	lastReceived atomic.Int64 // the time at which the peer last sent bytes
	delivery     delivery     // of the bytes, for a peer that acknowledges no events

	mu      sync.Mutex // guards the fields below
	free    sync.Cond  // signaled when writing becomes false
	queued  []byte
	phase   outboxPhase
	writing bool // a goroutine writes to conn
	// flushing is set while flush writes.
	flushing bool
	err      error // of the failed write
}

var errStalled = errors.New("timed out: the peer does not read")

var outBuffers = sync.Pool{New: func() any { return new([]byte) }}

// newOutbox returns an outbox whose connection is set later.
func (b *Backplane) newOutbox() *outbox {
	o := &outbox{silence: func() time.Duration { return b.settings.Load().Silence }, tune: b.tuneSocket}
	o.free.L = &o.mu
	return o
}

// Read implements [io.Reader].
func (o *outbox) Read(b []byte) (int, error) {
	n, err := o.conn.Read(b)
	if n > 0 {
		now := relay.Ticks(time.Now())
		o.lastProgress.Store(now)
		o.lastReceived.Store(now)
	}
	return n, err
}

// Write implements [io.Writer]. It returns the error of an earlier write.
func (o *outbox) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.phase == outboxFailed:
		return 0, o.err
	case o.phase == outboxClosing:
		return 0, net.ErrClosed
	case o.queued == nil:
		o.queued = (*outBuffers.Get().(*[]byte))[:0]
	}
	o.queued = append(o.queued, b...)
	o.delivery.accepted.Add(uint64(len(b)))
	if o.phase == outboxDirect {
		o.startWriting()
	}
	return len(b), nil
}

// startWriting writes queued bytes in a goroutine, unless a goroutine does already. o.mu is held.
func (o *outbox) startWriting() {
	if o.writing {
		return
	}
	o.writing = true
	go func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.writeQueued()
	}()
}

// hold queues all further writes until flush.
func (o *outbox) hold() {
	o.mu.Lock()
	o.phase = o.phase.next(outboxHold)
	o.mu.Unlock()
}

// flush returns once the kernel has all bytes written before, or a write has failed.
func (o *outbox) flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.phase = o.phase.next(outboxFlush)
	o.flushing = true
	defer func() { o.flushing = false }()
	for o.writing {
		o.free.Wait()
	}
	o.writing = true
	o.writeQueued()
	return o.err
}

// awaitWritten waits until no write is in progress.
func (o *outbox) awaitWritten() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.writing {
		o.free.Wait()
	}
}

// writeQueued writes all queued bytes. o.mu is held, but released during writes; the caller has set o.writing.
func (o *outbox) writeQueued() {
	for len(o.queued) > 0 && o.phase != outboxFailed {
		b := o.queued
		o.queued = nil
		o.mu.Unlock()
		err := o.writeChunks(b)
		if cap(b) <= maxPooledBytes {
			outBuffers.Put(&b)
		}
		o.mu.Lock()
		if err != nil {
			o.err = err
			o.phase = o.phase.next(outboxFail)
		}
	}
	o.writing = false
	o.free.Broadcast()
	if o.phase == outboxClosing || o.phase == outboxFailed {
		o.mu.Unlock()
		o.delivery.settle()
		_ = o.conn.Close()
		o.mu.Lock()
	}
}

func (o *outbox) writeChunks(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), writeBytes)
		began := time.Now()
		late := time.AfterFunc(o.silence(), o.abort)
		taken, err := o.conn.Write(b[:n])
		o.delivery.taken.Add(uint64(taken))
		if !late.Stop() {
			return errStalled
		}
		if err != nil {
			return err
		}
		// A fast write only fills the kernel's buffer; the peer may be gone.
		if now := time.Now(); now.Sub(began) >= slowWrite {
			o.lastProgress.Store(relay.Ticks(now))
		}
		b = b[n:]
	}
	return nil
}

// abort closes the connection without a TLS close alert, which would wait for the peer.
func (o *outbox) abort() {
	o.delivery.settle()
	if t, ok := o.conn.(interface{ NetConn() net.Conn }); ok {
		_ = t.NetConn().Close()
		return
	}
	_ = o.conn.Close()
}

// Close implements [io.Closer]. It returns at once. Queued bytes are written within closeTimeout, and then the
// connection is closed. Events that can be sent over the next link are not written any more.
func (o *outbox) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.delivery.tracks() && (o.phase == outboxHeld || o.flushing) {
		o.err, o.phase = net.ErrClosed, o.phase.next(outboxFail)
		o.abort()
		return nil
	}
	before := o.phase
	if o.phase = before.next(outboxClose); o.phase == before {
		return nil
	}
	o.startWriting()
	time.AfterFunc(closeTimeout, o.abort)
	return nil
}

// acceptsPing reports whether to answer a ping. A peer that does not read the answers gets no more.
func (o *outbox) acceptsPing(context.Context, []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queued) < maxQueuedForPong
}

// accepting is a response whose hijacked connection gets an outbox.
type accepting struct {
	http.ResponseWriter
	out *outbox
}

// Unwrap serves [http.NewResponseController].
func (a accepting) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Hijack implements [http.Hijacker].
func (a accepting) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	_ = conn.SetDeadline(time.Time{}) // the server's deadlines concern requests
	a.out.tune(conn)
	a.out.conn = conn
	a.out.delivery.socket = tcptuning.Socket(conn)
	boxed := boxedConn{conn, a.out}
	return boxed, bufio.NewReadWriter(rw.Reader, bufio.NewWriter(boxed)), nil
}

// boxedConn is a connection whose reads and writes pass an outbox.
type boxedConn struct {
	net.Conn
	out *outbox
}

func (c boxedConn) Read(b []byte) (int, error)  { return c.out.Read(b) }
func (c boxedConn) Write(b []byte) (int, error) { return c.out.Write(b) }
func (c boxedConn) Close() error                { return c.out.Close() }

// dialing is a transport that gives an upgraded connection an outbox.
type dialing struct {
	http.RoundTripper
	out *outbox
}

// RoundTrip implements [http.RoundTripper].
func (d dialing) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := d.RoundTripper.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, err
	}
	if conn, ok := resp.Body.(io.ReadWriteCloser); ok {
		d.out.conn = conn
		resp.Body = d.out
	}
	return resp, nil
}
