// Package sse is the server side of responses that stay open, such as event streams (server-sent events): connections
// that are many and mostly idle, and on which only the relay writes. Over HTTP/1.1 the connection is taken over like a
// WebSocket: it holds no buffer and no goroutine while nothing happens, and does not depend on the server that has
// accepted it. Over HTTP/2 and HTTP/3 each stream keeps its handler's goroutine.
//
// A [Conn] is a [relay.Socket]: it gets the encoded WebSocket frames that all clients share, and takes the payloads
// out. A [Form] says what becomes of the payloads. [Server.Accept] answers a request, and [Conn.Attend] waits for the
// end.
package sse

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/transport/outgoing"
)

// maxInput is how many bytes a client may send behind its request. A client has no reason to send any.
const maxInput = 64 << 10

// Handler is told of the end of a connection.
type Handler interface {
	// Ended is called once, when the connection has ended.
	Ended()
}

// Conn is a response that stays open, and a [relay.Socket]. All methods may be called concurrently, except Attend,
// which is called once.
type Conn struct {
	outgoing.Conn
	form    *Form
	server  *Server
	handler Handler
	own     *own   // nil: the client gets the bytes that all clients of the form share
	input   uint32 // bytes from the client; belongs to the reader

	sent atomic.Uint32 // second of the server's clock in which bytes were last sent
	// The server's beats guards both.
	slot int32
	at   int32
}

// own makes the bytes of one client.
type own struct {
	mu      sync.Mutex // guards the order of calls
	rewrite func(dst, shared []byte) []byte
}

var (
	_ relay.Socket          = (*Conn)(nil)
	_ relay.Dropper         = (*Conn)(nil)
	_ outgoing.OneWay       = (*Conn)(nil)
	_ outgoing.EventCounter = (*Conn)(nil)
)

// scratches are buffers for bytes of a single client.
var scratches = sync.Pool{New: func() any { return new([]byte) }}

// maxScratch is the greatest length of a buffer that is kept in scratches.
const maxScratch = 64 << 10

// Send implements [relay.Socket].
func (c *Conn) Send(frames []byte, limit int) bool {
	shared := c.form.shared(frames)
	if c.own != nil {
		return c.sendOwn(shared, limit)
	}
	if len(shared) == 0 {
		return c.IsOpen()
	}
	c.noteSent()
	return c.Conn.Send(shared, limit)
}

// SendCopy implements [relay.Socket].
func (c *Conn) SendCopy(frames []byte, limit int) bool {
	buf := scratches.Get().(*[]byte)
	defer release(buf)
	b := c.form.appendAll((*buf)[:0], frames)
	*buf = b
	switch {
	case c.own != nil:
		return c.sendOwn(b, limit)
	case len(b) == 0:
		return c.IsOpen()
	}
	c.noteSent()
	return c.Conn.SendCopy(b, limit)
}

// SendAnswer implements [relay.Dropper].
func (c *Conn) SendAnswer(frames []byte, limit int) bool {
	return c.sendKept(frames, func(b []byte) bool { return c.Conn.SendAnswer(b, limit) })
}

// SendNotice implements [relay.Dropper].
func (c *Conn) SendNotice(frames []byte) bool { return c.sendKept(frames, c.Conn.SendNotice) }

// sendKept sends frames of a single client that are not dropped.
func (c *Conn) sendKept(frames []byte, send func(b []byte) bool) bool {
	b := c.form.appendAll(nil, frames)
	if c.own != nil {
		c.own.mu.Lock()
		defer c.own.mu.Unlock()
		b = c.own.rewrite(nil, b)
	}
	if len(b) == 0 {
		return c.IsOpen()
	}
	c.noteSent()
	return send(b)
}

// eventEnd ends each event of an event stream.
var eventEnd = []byte("\n\n")

// CountEvents implements [outgoing.EventCounter].
func (c *Conn) CountEvents(b []byte) int { return bytes.Count(b, eventEnd) }

// sendOwn sends the bytes that the client gets in place of shared ones.
func (c *Conn) sendOwn(shared []byte, limit int) bool {
	buf := scratches.Get().(*[]byte)
	defer release(buf)
	c.own.mu.Lock()
	defer c.own.mu.Unlock()
	b := c.own.rewrite((*buf)[:0], shared)
	*buf = b
	if len(b) == 0 {
		return c.IsOpen()
	}
	c.noteSent()
	return c.Conn.SendCopy(b, limit)
}

func release(buf *[]byte) {
	if cap(*buf) <= maxScratch {
		scratches.Put(buf)
	}
}

func (c *Conn) noteSent() {
	if now := c.server.beats.now.Load(); c.sent.Load() != now {
		c.sent.Store(now)
	}
}

// Ping implements [relay.Socket]. The client never sends anything, so there is nothing to ask it: heartbeats leave by
// the server's own clock, and the kernel ends a connection whose bytes nobody acknowledges.
func (c *Conn) Ping() (sent bool) { return false }

// LastRead implements [relay.Socket]. See Ping.
func (c *Conn) LastRead() time.Time { return time.Now() }

// Close implements [relay.Socket]: the client gets the last bytes of the form, and then the end of the response.
func (c *Conn) Close(code int, reason string) {
	c.Conn.Close(code, reason)
	c.EndQueued()
}

// CloseMessage implements [outgoing.Protocol].
func (c *Conn) CloseMessage(code int, reason string) []byte {
	if c.form.End == nil {
		return nil
	}
	return c.form.End(code, reason)
}

// OneWay implements [outgoing.OneWay].
func (c *Conn) OneWay() {}

// beat sends a heartbeat.
func (c *Conn) beat() { c.SendControl(c.form.Heartbeat, true) }

// Attend tells h of the end of the connection. Over HTTP/1.1, Attend returns at once. Over HTTP/2 and HTTP/3 it returns
// when the response has ended, and the HTTP handler returns then. Attend must follow each successful Accept.
func (c *Conn) Attend(h Handler) {
	c.handler = h
	if s, ok := c.IO().NetConn().(*stream); ok {
		s.wait(c)
		c.Kill()
		c.end()
		return
	}
	if !c.IO().Start(false) {
		go c.readUntilEnd()
	}
}

// ReadReady implements the poller's interface netpoll.Owner.
func (c *Conn) ReadReady(scratch []byte) {
	for drained := false; ; {
		n, last, err := c.IO().ReadOrRest(scratch, drained)
		switch {
		case err != nil || c.tooMuchInput(n):
			c.Kill()
			c.IO().Release()
			c.end()
			return
		case n == 0:
			return
		}
		drained = last
	}
}

// readUntilEnd reads a connection that cannot be polled.
func (c *Conn) readUntilEnd() {
	scratch := make([]byte, 64)
	for {
		if n, err := c.IO().Read(scratch); err != nil || c.tooMuchInput(n) {
			c.Kill()
			c.end()
			return
		}
	}
}

func (c *Conn) tooMuchInput(n int) bool {
	c.input += uint32(n)
	return c.input > maxInput
}

func (c *Conn) end() {
	c.server.beats.remove(c)
	c.handler.Ended()
}
