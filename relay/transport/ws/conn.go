// Package ws is the server side of a client's WebSocket (RFC 6455), for connections that are many and mostly idle: a
// frame that was encoded once for all clients is written with one system call and without waking a goroutine, and an
// idle connection holds no buffer and no goroutine. Package netpoll moves the bytes.
//
// [Accept] upgrades a request. [Conn.Attend] starts reading and hands the client's messages to a [Handler]. [Conn] is
// the [relay.Socket] for everything that the relay sends.
package ws

import (
	"bytes"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
)

// Handler receives a client's messages.
type Handler interface {
	// Message is called for each message in order. The next message is read after Message has returned.
	Message(text bool, message []byte)
	// Ended is called once, after the last message, when the connection has ended.
	Ended()
}

// Conn is a server-side WebSocket and a [relay.Socket]. All methods may be called concurrently, except Attend, which is
// called once.
//
// docs/decisions/transport.md#why-is-netpollconn-a-struct-inside-wsconn has the reason for the order of the fields.
// See docs/decisions/transport.md#why-does-edgerelay-have-a-websocket-server-of-its-own
type Conn struct {
	// The lock of io guards the fields up to queued, except idle.
	state     state
	flushing  bool     // a goroutine is writing the queue
	endQueued bool     // the connection ends when the queue is empty
	slow      bool     // closed as a slow consumer
	shutdown  bool     // the outgoing direction ends when the queue is empty
	growing   bool     // frames can be appended to the last piece of the queue, which is a copy
	idle      uint16   // of the reader: parts of frames without a message since idleSince; see tinyFragmentPart
	queue     [][]byte // oldest first; flush is writing the head
	queued    int      // bytes in queue

	io          netpoll.Conn
	subprotocol string
	limit       func() int   // length of a client's message in bytes
	lastRead    atomic.Int64 // relay.Ticks

	// Of the reader. Buffers that only an active connection needs are in type reader.
	handler   Handler
	early     *bytes.Reader // bytes that arrived with the handshake; nil if there are none left
	idleSince int64         // relay.Ticks
}

// state is the phase of a connection's outgoing direction.
type state uint8

const (
	open     state = iota
	closing        // our close frame is queued, as the last frame
	finished       // the connection is closed
)

var (
	_ relay.Socket  = (*Conn)(nil)
	_ netpoll.Owner = (*Conn)(nil)
)

// Subprotocol returns the subprotocol that the handshake agreed on, empty if none.
func (c *Conn) Subprotocol() string { return c.subprotocol }

// LastRead implements [relay.Socket].
func (c *Conn) LastRead() time.Time { return relay.At(c.lastRead.Load()) }

// touch records that the client is alive.
func (c *Conn) touch() { c.lastRead.Store(relay.Ticks(time.Now())) }

func (c *Conn) isOpen() bool {
	c.io.Lock()
	defer c.io.Unlock()
	return c.state == open
}
