// Package ws is the server's end of a client's websocket (RFC 6455), made for connections that are many and mostly
// idle: frames that were encoded once for all clients are written with one system call and without
// waking a goroutine, and a connection at rest holds no buffers and no goroutine.
package ws

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
)

const (
	// closeWait is how long a client has to take a close frame, and what the kernel holds before it, and to answer.
	closeWait = 5 * time.Second
)

// Conn is a server-side websocket connection. It implements [relay.Socket]. All may be called concurrently, but for Attend, which
// is called once.
type Conn struct {
	// A write to a client that keeps up uses these fields and the first 24 bytes of io: one line of the cache, which is
	// cold for each client. All are guarded by io's lock.
	state    state
	flushing bool     // a goroutine is writing the queue
	last     bool     // the connection ends when the queue is empty
	slow     bool     // closed because too much waited
	shut     bool     // our direction ends when the queue is empty
	growing  bool     // the last piece of the queue is a copy of ours, to which others can be appended
	idle     uint16   // parts of frames without a message since idleSince, of the reader; see tinyFragmentPart
	queue    [][]byte // what waits, oldest first; the first is being written, from wherever it starts
	queued   int      // bytes in queue

	io          netpoll.Conn
	subprotocol string
	limit       func() int   // bytes of a client's message
	lastRead    atomic.Int64 // relay.Ticks

	// Of the reader. Buffers that only an active connection needs are in reader.
	handler   Handler
	early     *bytes.Reader // bytes that came with the handshake
	idleSince int64         // relay.Ticks
}

type state uint8

const (
	open     state = iota
	closing        // our close frame is queued; nothing may follow it
	finished       // the connection is closed
)

var _ relay.Socket = (*Conn)(nil)

// Send implements [relay.Socket].
func (c *Conn) Send(frames []byte, limit int) bool { return c.send(frames, limit, false) }

// SendCopy implements [relay.Socket].
func (c *Conn) SendCopy(frames []byte, limit int) bool { return c.send(frames, limit, true) }

// send writes frames, or lets them wait. A borrowed buffer is copied before it is kept.
func (c *Conn) send(frames []byte, limit int, borrowed bool) bool {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state != open {
		return false
	}
	if !c.flushing {
		frames = c.tryWrite(frames, borrowed)
		if len(frames) == 0 {
			return true
		}
	}
	if waiting := c.waiting(); limit > 0 && waiting > 0 && waiting+len(frames) > limit { // one that is longer than the limit is nobody's fault
		c.closeSlow()
		return false
	}
	if borrowed && len(frames) > smallPiece {
		frames = bytes.Clone(frames)
	}
	c.enqueue(frames)
	return true
}

// tryWrite writes what the socket takes now and returns the rest. c.mu is held and nothing waits.
func (c *Conn) tryWrite(b []byte, borrowed bool) []byte {
	n, kept, err := c.io.TryWrite(b)
	if kept > 0 {
		c.startFlush()
	}
	if err != nil {
		if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) { // then the reader sees it, behind the client's last words
			go c.Kill()
		}
		return nil
	}
	if n > 0 && n < len(b) {
		// The rest may start in the middle of a frame: as the head of the queue it is written whatever comes.
		rest := b[n:]
		if borrowed && len(rest) > smallPiece {
			rest = bytes.Clone(rest)
		}
		c.enqueue(rest)
		return nil
	}
	return b[n:]
}

const (
	// smallPiece is the longest piece that waits as a copy: it would keep the whole buffer that it was encoded in, with
	// frames for others.
	smallPiece = 4 << 10
	// chunk is how many bytes of copies are kept in one piece of memory. One for each would take half as much again.
	chunk = 16 << 10
)

// enqueue lets b wait. c.mu is held.
func (c *Conn) enqueue(b []byte) {
	c.queued += len(b)
	c.startFlush()
	if len(b) > smallPiece {
		c.queue, c.growing = append(c.queue, b), false
		return
	}
	last := len(c.queue) - 1
	if last < 1 || !c.growing || len(c.queue[last])+len(b) > chunk { // the flusher has the first
		c.queue, c.growing = append(c.queue, bytes.Clone(b)), true
		return
	}
	tail := c.queue[last]
	if need := len(tail) + len(b); need > cap(tail) {
		tail = append(make([]byte, 0, min(chunk, max(need, 2*cap(tail)))), tail...)
	}
	c.queue[last] = append(tail, b...)
}

func (c *Conn) startFlush() {
	if !c.flushing {
		c.flushing = true
		go c.flush()
	}
}

// waiting is how many bytes wait for the client. c.mu is held.
func (c *Conn) waiting() int { return c.queued + c.io.Kept() }

// Progress implements [netpoll.Owner]. Bytes that the client takes are a sign of life, since it is not pinged while
// something waits.
func (c *Conn) Progress() { c.lives() }

// FlushSoon implements [netpoll.Owner].
func (c *Conn) FlushSoon() {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state != finished {
		c.startFlush()
	}
}

// flush writes the queue until it is empty. It is the only writer while it runs.
func (c *Conn) flush() {
	for {
		if err := c.io.Flush(); err != nil {
			c.Kill()
		}
		c.io.Lock()
		if c.state != finished && len(c.queue) == 0 && c.io.Kept() > 0 {
			c.io.Unlock()
			continue
		}
		if len(c.queue) == 0 || c.state == finished {
			c.queue, c.queued, c.flushing = nil, 0, false
			_ = c.io.NetConn().SetWriteDeadline(time.Time{}) // it would hold for direct writes, too
			last, goodbye, shut := c.last, c.state == closing, c.shut
			c.io.Unlock()
			if shut {
				c.io.CloseWrite()
			}
			switch {
			case last:
				c.kill(false)
			case goodbye: // the close frame has left: from here on it is the client's turn
				time.AfterFunc(closeWait, c.Kill)
			}
			return
		}
		b := c.queue[0]
		c.io.Unlock()

		if err := c.io.Write(b); err != nil {
			c.Kill()
			continue
		}

		c.io.Lock()
		if len(c.queue) > 0 { // close may have cut the queue, but never what is being written
			c.queue[0] = nil
			c.queue = c.queue[1:]
			c.queued -= len(b)
		}
		c.io.Unlock()
	}
}

// Ping implements [relay.Socket].
func (c *Conn) Ping() (sent bool) { return c.control([]byte{finBit | opPing, 0}) }

// control writes a control frame, behind what waits. It is dropped where something waits and the frame is a ping: the client has
// something to read already.
func (c *Conn) control(frame []byte) (sent bool) {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state != open {
		return false
	}
	if !c.flushing {
		if frame = c.tryWrite(frame, false); len(frame) == 0 {
			return true
		}
	}
	switch waiting := c.waiting(); {
	case waiting > 0 && frame[0] == finBit|opPing:
		return false
	case waiting > maxControlQueue: // a flood of pings from a client that does not read the answers
		c.closeSlow()
		return false
	}
	c.enqueue(frame)
	return true
}

// maxControlQueue bounds what may wait when a control frame is to be added.
const maxControlQueue = 1 << 20

// LastRead implements [relay.Socket].
func (c *Conn) LastRead() time.Time { return relay.At(c.lastRead.Load()) }

// Close implements [relay.Socket].
func (c *Conn) Close(code int, reason string) {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state == open {
		c.close(code, reason)
	}
}

// close sends a close frame in place of all that waits, except the frame that is half written, and cuts
// the connection if the client does not answer. c.mu is held.
func (c *Conn) close(code int, reason string) {
	c.state = closing
	frame := closeFrame(code, reason)
	switch {
	case !c.flushing:
		if rest := c.tryWrite(frame, false); len(rest) > 0 {
			c.enqueue(rest)
		}
	case code != relay.ClosePolicy: // a client that is merely behind gets what it is owed
		c.enqueue(frame)
	default: // the flusher may be writing queue[0]; what it has begun must be finished
		for i := 1; i < len(c.queue); i++ {
			c.queue[i] = nil
		}
		c.queue, c.queued, c.growing = c.queue[:min(1, len(c.queue))], 0, false
		if len(c.queue) > 0 {
			c.queued = len(c.queue[0])
		}
		c.enqueue(frame)
	}
	time.AfterFunc(closeWait, c.Kill)
}

func closeFrame(code int, reason string) []byte {
	frame := append(make([]byte, 0, 4+len(reason)), finBit|opClose, byte(2+len(reason)))
	frame = binary.BigEndian.AppendUint16(frame, uint16(code))
	return append(frame, reason...)
}

// answerClose answers the client's close frame with the same code, unless we have sent ours already.
func (c *Conn) answerClose(code []byte) {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state != open {
		return
	}
	c.state = closing
	frame := append([]byte{finBit | opClose, byte(len(code))}, code...)
	if !c.flushing {
		frame = c.tryWrite(frame, false)
	}
	if len(frame) > 0 {
		c.enqueue(frame)
	}
}

func (c *Conn) isOpen() bool {
	c.io.Lock()
	defer c.io.Unlock()
	return c.state == open
}

// Subprotocol is what was agreed in the handshake, empty if nothing was.
func (c *Conn) Subprotocol() string { return c.subprotocol }

// Kill implements [relay.Socket].
func (c *Conn) Kill() { c.kill(true) }

// kill ends the connection. A client that is not cut off may still take what it has been sent.
func (c *Conn) kill(cutOff bool) {
	c.io.Lock()
	c.state = finished
	c.io.Unlock()
	timeout := closeWait
	if cutOff {
		timeout = 0
	}
	c.io.Close(timeout)
}
