package webhttp

import (
	"context"
	"encoding/binary"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// maxQueued is the number of bytes of messages that are queued for a request before the client's next message is
	// not read; Pushpin has the same bound. Each message counts messageCost bytes more.
	maxQueued   = 200_000
	messageCost = 64
)

// Conn is a client's connection whose messages a [Backend] answers. It is the client's handler and, for the engine, the
// client's socket. Methods may be called concurrently, except Message, whose calls must not overlap.
//
// A connection without a request in flight has neither a goroutine nor a buffer.
type Conn struct {
	relay.Socket
	backend *Backend
	session relay.Session
	handshake
	key    string // of the fair queue
	id     [16]byte
	prefix string // of ordinary messages
	// Of the goroutine of the current request: meta, grip.
	meta []pair
	grip bool // messages may be control messages

	mu      sync.Mutex   // guards the fields below; not held during calls that block
	groups  []groupEntry // never changed in place
	phase   phase
	running bool // a goroutine sends requests
	polling bool // a request is due although there is no message
	stuck   bool // the backend took nothing of a full queue
	// replayed is the number of events at the head of the queue, and replayedBytes that of the bytes of their contents,
	// that a request has had and the backend has not taken.
	replayed, replayedBytes int
	queue                   []event
	queued                  int           // bytes in queue, with messageCost
	room                    chan struct{} // closed when the queue shrinks; nil while no caller waits
	end                     []byte        // content of CLOSE
	extra                   *extra        // nil without need
}

// groupEntry is a group of a connection.
type groupEntry struct {
	name string
	// filters are those of the subscription.
	filters []string
	// granted is set for a group that the backend cannot unsubscribe.
	granted bool
}

// Deflates implements [relay.Deflater].
func (c *Conn) Deflates() bool {
	d, ok := c.Socket.(relay.Deflater)
	return ok && d.Deflates()
}

// Choose implements [relay.Deflater].
func (c *Conn) Choose(z *relay.Compressed) relay.Form { return c.Socket.(relay.Deflater).Choose(z) }

var _ relay.Deflater = (*Conn)(nil)

// Send implements [relay.Socket]. A client whose queue is full is closed: the protocol has no notice of dropped events.
func (c *Conn) Send(frames []byte, limit int) bool {
	return c.Socket.Send(frames, limit) || c.closeSlow()
}

// SendCopy implements [relay.Socket].
func (c *Conn) SendCopy(frames []byte, limit int) bool {
	return c.Socket.SendCopy(frames, limit) || c.closeSlow()
}

// closeSlow closes the connection of a slow consumer, unless the socket has closed itself. It returns false.
func (c *Conn) closeSlow() bool {
	if s, ok := c.Socket.(interface{ CloseSlow() }); ok {
		s.CloseSlow()
	}
	return false
}

// Message queues a client's message for the backend. It returns when the client's next message may be read.
func (c *Conn) Message(text bool, message []byte) {
	e := event{eventText, message}
	if !text {
		e.kind = eventBinary
	}
	if e.content == nil {
		e.content = []byte{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.phase.takesMessages() {
		return
	}
	c.queue = append(c.queue, e)
	c.queued += len(message) + messageCost
	c.wake()
	if c.queued >= maxQueued {
		c.awaitRoom()
	}
}

// awaitRoom waits until the queue is shorter. A client whose messages the backend does not take in time is closed. c.mu
// is held.
func (c *Conn) awaitRoom() {
	timer := time.NewTimer(c.backend.times.maxBlocked)
	defer timer.Stop()
	for c.queued >= maxQueued && c.phase.takesMessages() {
		if c.room == nil {
			c.room = make(chan struct{})
		}
		room := c.room
		c.mu.Unlock()
		select {
		case <-room:
			c.mu.Lock()
		case <-timer.C:
			c.backend.Stats.Busy.Add(1)
			c.fail(&failure{code: relay.CloseTryLater, reason: "backend is busy", err: errBlocked})
			c.mu.Lock()
			return
		}
	}
}

// Closed records the client's close frame. The backend gets CLOSE after the messages before.
func (c *Conn) Closed(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if code != 0 && code != closeNoStatus && code != closeAbnormal {
		c.end = append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
	}
	c.turn(clientCloses)
	c.wake()
}

// Ended ends the session after the end of the client's connection. The backend gets DISCONNECT, unless it was told of a
// close, or has closed itself and got the client's answer.
func (c *Conn) Ended() {
	defer c.backend.running.end() // of Backend.Open
	c.session.Close()
	c.backend.Stats.Connections.Add(-1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn(clientLeaves)
	c.stopTimers()
	c.replaceGroups(nil)
	c.wake()
}

// turn changes the phase. c.mu is held.
func (c *Conn) turn(in input) {
	c.phase = c.phase.after(in)
	switch c.phase {
	case open, detached, closed:
		return
	case detaching:
		c.queue, c.queued, c.replayed, c.replayedBytes = nil, 0, 0, 0
		c.makeRoom()
		return
	case ended:
		c.queue, c.queued = nil, 0
	}
	c.stopTimers()
	c.makeRoom()
}

// makeRoom lets Message return. c.mu is held.
func (c *Conn) makeRoom() {
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

// fail closes the client's connection after a failure.
func (c *Conn) fail(f *failure) {
	log := c.backend.current.Load().Log
	log.Warn("backend request failed, client disconnected", "error", f.err, "reason", f.reason,
		"path", strings.SplitN(c.uri, "?", 2)[0])
	c.mu.Lock()
	c.queue, c.queued, c.replayed, c.replayedBytes = nil, 0, 0, 0
	c.turn(f.input())
	c.wake()
	c.mu.Unlock()
	if c.Socket != nil {
		c.Socket.Close(f.code, f.reason)
	}
}

// wake starts a goroutine for the next request, if one is due. c.mu is held.
func (c *Conn) wake() {
	if c.running || !c.due() {
		return
	}
	c.running = true
	c.backend.running.begin()
	go c.run()
}

// due reports whether a request is due. c.mu is held.
func (c *Conn) due() bool {
	switch c.phase {
	case open:
		return len(c.queue) > c.replayed || c.polling || c.queued >= maxQueued && !c.stuck
	}
	return c.phase.tells()
}

// run sends requests until none is due.
func (c *Conn) run() {
	defer c.backend.running.end()
	for {
		c.mu.Lock()
		if !c.due() {
			c.running = false
			c.startKeepAlive()
			c.mu.Unlock()
			return
		}
		b := c.nextBatch()
		c.mu.Unlock()
		a, f := c.backend.exchange(context.Background(), &question{
			class: b.class(), key: c.key, body: b.body, replayed: b.replayed, meta: c.meta, id: c.connectionID(),
			handshake: c.handshake,
		})
		if f == nil {
			f = c.apply(&b, a)
		}
		if f != nil {
			c.failed(&b, f)
		}
	}
}

// rest ends the work of [Opening.Start].
func (c *Conn) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = false
	c.startKeepAlive()
	c.wake()
}

// failed ends a connection after a request without a valid answer.
func (c *Conn) failed(b *batch, f *failure) {
	if b.close || b.disconnect {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.turn(endIsTold) // as far as possible
		return
	}
	c.fail(f)
}

// batch is the content of a request.
type batch struct {
	body     []byte
	events   int // messages from the queue
	bytes    int // of their contents
	replayed int // bytes of contents that an earlier request had
	// close is set if the last event is CLOSE, with closeBytes of content; disconnect is set if it is DISCONNECT.
	close      bool
	closeBytes int
	disconnect bool
}

func (b *batch) class() int {
	if b.disconnect {
		return classEnd
	}
	return classMessage
}

// nextBatch takes the messages for the next request: as many as fit, at least one. c.mu is held.
func (c *Conn) nextBatch() (b batch) {
	c.polling = false
	c.stopKeepAlive()
	for _, e := range c.queue {
		if b.events > 0 && (b.bytes+len(e.content) > maxQueued || b.events == maxEvents) {
			break
		}
		b.body = appendEvent(b.body, e.kind, e.content)
		b.events++
		b.bytes += len(e.content)
	}
	b.replayed = c.replayedBytes
	if b.events < len(c.queue) {
		return b
	}
	switch c.phase {
	case closing, detaching:
		b.close, b.closeBytes = true, len(c.end)
		b.body = appendEvent(b.body, eventClose, c.end)
	case leaving:
		b.disconnect = true
		b.body = appendEvent(b.body, eventDisconnect, nil)
	}
	return b
}

// take removes what the backend has taken of a batch. The failure is that of an impossible number.
func (c *Conn) take(b *batch, h http.Header) *failure {
	offered := b.bytes + b.closeBytes
	taken := offered
	if text := h.Get("Content-Bytes-Accepted"); text != "" {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		switch {
		case err != nil || n < 0 || n > offered:
			return invalid(errAccepted)
		case b.disconnect || b.close && n >= b.bytes && n < offered:
			n = offered // nothing will follow that the backend could wait for
		}
		taken = n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	taken = min(taken, b.bytes)
	left, before := taken, len(c.queue)
	for len(c.queue) > 0 && b.events > 0 && len(c.queue[0].content) <= left {
		left -= len(c.queue[0].content)
		c.queued -= len(c.queue[0].content) + messageCost
		c.queue = c.queue[1:]
		b.events--
		c.backend.Stats.Messages.Add(1)
	}
	if left > 0 && len(c.queue) > 0 { // a part of a message
		c.queue[0].content = c.queue[0].content[left:]
		c.queued -= left
	}
	c.replayed, c.replayedBytes = b.events, b.bytes-taken
	if len(c.queue) == 0 { // taken, or given up by fail
		c.queue, c.replayed, c.replayedBytes = nil, 0, 0
	}
	if c.stuck = taken == 0 && len(c.queue) == before && before > 0; !c.stuck {
		c.makeRoom()
		return nil
	}
	if c.queued >= maxQueued || c.phase.tells() {
		return invalid(errStuck)
	}
	return nil
}
