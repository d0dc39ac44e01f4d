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

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// writeBytes is how much is written to a connection at a time, and mostWaiting how much may wait there when a ping is still answered.
	writeBytes, maxQueuedForPong = 32 << 10, 1 << 20
	// fullWait is how long a write takes at least that had to wait for the peer to take something.
	slowWrite = 10 * time.Millisecond
	// keptBytes is the largest buffer that is used again.
	maxPooledBytes = 256 << 10
)

// outbox stands between a websocket and its connection, and takes what is written without waiting for the peer to take it. Package
// websocket answers pings from the goroutine that reads, under a lock that whoever writes holds: with a connection that is full both
// ways, two nodes that ping each other would each wait for the other to read.
//
// What is written leaves by itself, or, after hold, when flush is called.
type outbox struct {
	conn         io.ReadWriteCloser
	silence      func() time.Duration // how long the peer may take nothing
	lastProgress atomic.Int64         // relay.Ticks of when something last came from it, or it made room for more

	mu      sync.Mutex
	free    sync.Cond // nobody is writing to conn
	queued  []byte
	held    bool
	writing bool
	closed  bool
	err     error
}

var errStalled = errors.New("the peer takes nothing")

var outBuffers = sync.Pool{New: func() any { return new([]byte) }}

// newOutbox returns the outbox of a connection that is still to be made.
func (b *Backplane) newOutbox() *outbox {
	o := &outbox{silence: func() time.Duration { return b.settings.Load().Silence }}
	o.free.L = &o.mu
	return o
}

// Read implements [io.Reader].
func (o *outbox) Read(b []byte) (int, error) {
	n, err := o.conn.Read(b)
	if n > 0 {
		o.lastProgress.Store(relay.Ticks(time.Now()))
	}
	return n, err
}

// Write implements [io.Writer]. An error is that of an earlier write.
func (o *outbox) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.err != nil:
		return 0, o.err
	case o.closed:
		return 0, net.ErrClosed
	case o.queued == nil:
		o.queued = (*outBuffers.Get().(*[]byte))[:0]
	}
	o.queued = append(o.queued, b...)
	if !o.held && !o.writing {
		o.writing = true
		go func() {
			o.mu.Lock()
			o.writeQueued()
			o.mu.Unlock()
		}()
	}
	return len(b), nil
}

// hold keeps what is written from now on until flush.
func (o *outbox) hold() {
	o.mu.Lock()
	o.held = true
	o.mu.Unlock()
}

// flush returns when all that has been written before is with the kernel, or can never be.
func (o *outbox) flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = false
	for o.writing {
		o.free.Wait()
	}
	o.writing = true
	o.writeQueued()
	return o.err
}

// empty writes what waits. o.mu is held, but not meanwhile, and the caller has set o.writing.
func (o *outbox) writeQueued() {
	for len(o.queued) > 0 && o.err == nil {
		b := o.queued
		o.queued = nil
		o.mu.Unlock()
		err := o.writeChunks(b)
		if cap(b) <= maxPooledBytes {
			outBuffers.Put(&b)
		}
		o.mu.Lock()
		o.err = err
	}
	o.writing = false
	o.free.Broadcast()
	if o.closed || o.err != nil {
		o.mu.Unlock()
		_ = o.conn.Close()
		o.mu.Lock()
	}
}

func (o *outbox) writeChunks(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), writeBytes)
		began := time.Now()
		late := time.AfterFunc(o.silence(), o.abort)
		_, err := o.conn.Write(b[:n])
		if !late.Stop() {
			return errStalled
		}
		if err != nil {
			return err
		}
		// What the kernel takes at once says nothing of the peer, which may be gone.
		if now := time.Now(); now.Sub(began) >= slowWrite {
			o.lastProgress.Store(relay.Ticks(now))
		}
		b = b[n:]
	}
	return nil
}

// cut ends the connection without a word: TLS would wait to say goodbye.
func (o *outbox) abort() {
	if t, ok := o.conn.(interface{ NetConn() net.Conn }); ok {
		_ = t.NetConn().Close()
		return
	}
	_ = o.conn.Close()
}

// Close implements [io.Closer]. It returns at once; what waits is still written, if that does not take long, and then the connection is closed.
func (o *outbox) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	if !o.writing {
		o.writing = true
		go func() {
			o.mu.Lock()
			o.writeQueued()
			o.mu.Unlock()
		}()
	}
	time.AfterFunc(closeTimeout, o.abort)
	return nil
}

// answers tells whether to answer a ping: not that of a peer who does not take the answers.
func (o *outbox) acceptsPing(context.Context, []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queued) < maxQueuedForPong
}

// accepting is a response whose connection is hijacked with an outbox before it.
type accepting struct {
	http.ResponseWriter
	out *outbox
}

// Unwrap is for [http.NewResponseController].
func (a accepting) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Hijack implements [http.Hijacker].
func (a accepting) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	_ = conn.SetDeadline(time.Time{}) // the server's are for requests
	shrinkBuffer(conn)
	a.out.conn = conn
	boxed := boxedConn{conn, a.out}
	return boxed, bufio.NewReadWriter(rw.Reader, bufio.NewWriter(boxed)), nil
}

// boxedConn is a connection with an outbox before it.
type boxedConn struct {
	net.Conn
	out *outbox
}

func (c boxedConn) Read(b []byte) (int, error)  { return c.out.Read(b) }
func (c boxedConn) Write(b []byte) (int, error) { return c.out.Write(b) }
func (c boxedConn) Close() error                { return c.out.Close() }

// dialing is a transport that puts an outbox before a connection that is upgraded.
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
