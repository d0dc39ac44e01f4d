// Package outgoing is the side of a client's connection on which the relay writes: bytes leave at once, without a
// goroutine, and the bytes that the connection does not accept wait in a queue. The protocols above it, such as package
// ws, embed a [Conn], read from it, and say how it is closed.
package outgoing

import (
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
)

// CloseTimeout is how long a client has to take the bytes in the kernel and the close message, and to answer.
const CloseTimeout = 5 * time.Second

// Protocol is the protocol that embeds a [Conn].
type Protocol interface {
	netpoll.Owner
	// CloseMessage returns the last bytes of a connection that the relay closes; possibly none. The lock of the Conn is
	// held.
	CloseMessage(code int, reason string) []byte
}

// OneWay is a [Protocol] whose clients do not answer the close message. If absent, a slow consumer has CloseTimeout to
// answer it.
type OneWay interface {
	Protocol
	// OneWay does nothing.
	OneWay()
}

// Conn is the outgoing side of a connection. It has the methods of [relay.Socket] that do not depend on the protocol.
// [Conn.Attach] initializes a Conn. All methods may be called concurrently.
//
// docs/decisions/transport.md#why-is-netpollconn-a-struct-inside-wsconn has the reason for the order of the fields.
type Conn struct {
	// The lock of io guards the fields up to queue.
	state     state
	flushing  bool   // a goroutine is writing the queue
	endQueued bool   // the connection ends when the queue is empty
	slow      bool   // closed as a slow consumer
	shutdown  bool   // the outgoing direction ends when the queue is empty
	unacked   uint16 // bytes in the kernel at the last ping, in units of unackedUnit
	queue     *queue // nil: nothing is queued

	io       netpoll.Conn
	lastRead atomic.Int64 // relay.Ticks
}

// state is the phase of a connection's outgoing direction.
type state uint8

const (
	open     state = iota
	closing        // our close message is queued, as the last bytes
	finished       // the connection is closed
)

// IO returns the byte side, for reads.
func (c *Conn) IO() *netpoll.Conn { return &c.io }

// LastRead implements [relay.Socket].
func (c *Conn) LastRead() time.Time { return relay.At(c.lastRead.Load()) }

// ReadAt returns the time of LastRead as [relay.Ticks].
func (c *Conn) ReadAt() int64 { return c.lastRead.Load() }

// Touch records that the client is alive.
func (c *Conn) Touch() { c.lastRead.Store(relay.Ticks(time.Now())) }

// IsOpen reports whether nothing has begun to close the connection.
func (c *Conn) IsOpen() bool {
	c.io.Lock()
	defer c.io.Unlock()
	return c.state == open
}
