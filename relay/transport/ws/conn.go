// Package ws is the server side of a client's WebSocket (RFC 6455), for connections that are many and mostly idle: a
// frame that was encoded once for all clients is written with one system call and without waking a goroutine, and an
// idle connection holds no buffer and no goroutine. Package netpoll moves the bytes.
//
// [Accept] upgrades a request. [Conn.Attend] starts reading and hands the client's messages to a [Handler]. [Conn] is
// the [relay.Socket] for everything that the relay sends.
package ws

import (
	"bytes"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/transport/outgoing"
)

// Handler receives a client's messages.
type Handler interface {
	// Message is called for each message in order. The next message is read after Message has returned.
	Message(text bool, message []byte)
	// Ended is called once, after the last message, when the connection has ended.
	Ended()
}

// CloseHandler is a [Handler] that distinguishes a client's orderly close. If absent, the handler sees the end only.
type CloseHandler interface {
	// Closed is called when the client's close frame arrives, before Ended and after the last message. The code is 0 if
	// the frame has none. The connection answers the frame itself.
	Closed(code int, reason string)
}

// Conn is a server-side WebSocket and a [relay.Socket]. All methods may be called concurrently, except Attend, which is
// called once.
//
// docs/decisions/transport.md#why-is-netpollconn-a-struct-inside-wsconn has the reason for the order of the fields.
// See docs/decisions/transport.md#why-does-edgerelay-have-a-websocket-server-of-its-own
type Conn struct {
	outgoing.Conn
	subprotocol string
	limit       func() int // length of a client's message in bytes
	window      relay.Window

	// Of the reader. Buffers that only an active connection needs are in type reader.
	handler   Handler
	early     *bytes.Reader // bytes that arrived with the handshake; nil if there are none left
	idleSince uint32        // milliseconds of relay.Ticks
	idle      uint16        // parts of frames without a message since idleSince; see tinyFragmentPart
	deflates  bool          // the client has agreed on compression; does not change after the handshake
}

var (
	_ relay.Socket      = (*Conn)(nil)
	_ relay.Deflater    = (*Conn)(nil)
	_ relay.Dropper     = (*Conn)(nil)
	_ outgoing.Protocol = (*Conn)(nil)
)

// Subprotocol returns the subprotocol that the handshake agreed on, empty if none.
func (c *Conn) Subprotocol() string { return c.subprotocol }
