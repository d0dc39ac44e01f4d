// Package netpoll moves the bytes of connections that are many and mostly idle. A connection at rest holds no goroutine
// and no buffer, and a write costs one system call past the runtime's poller.
//
// A [Poller] watches connections through an epoll instance (Linux, TCP and Unix sockets, plain and under TLS) and calls
// the [Owner] of a connection when bytes arrive. On other platforms, and for other connections, a [Conn] has the same
// methods without the savings: [Conn.Start] returns false, and writes wait in the owner's queue. The owner is the
// protocol, such as package ws. Owner and Conn are all that both sides know of each other.
package netpoll

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Poller wakes connections at rest. All methods may be called concurrently.
// See docs/decisions/transport.md#why-does-a-client-at-rest-occupy-no-goroutine
type Poller struct {
	ready  chan *Conn   // to readers that are idle
	idle   atomic.Int32 // readers
	closed atomic.Bool
	calls  sync.Pool // of *writeCall
	epoll  epoll

	flushers flushers
	unacked  atomic.Int64 // nanoseconds

	tls       tlsFields
	directTLS atomic.Bool  // wanted
	checkTLS  func() error // nil: access to tls is safe
}

// New returns a poller, which uses no resources before the first connection.
func New() *Poller {
	p := &Poller{ready: make(chan *Conn), tls: foundFields, checkTLS: CheckTLS}
	p.directTLS.Store(true)
	return p
}

// SetDirectTLS turns direct TLS on or off, for connections that are attached later. A new poller has direct TLS on.
// Direct TLS uses unexported fields of crypto/tls: a TLS connection is polled, written without blocking, and holds no
// empty buffers. With direct TLS off, and if [CheckTLS] fails, each TLS connection needs a goroutine and about 7 KiB
// more.
func (p *Poller) SetDirectTLS(on bool) { p.directTLS.Store(on) }

// SetUnackedTimeout sets the time after which the kernel ends a TCP connection whose bytes the client does not
// acknowledge, for connections that are attached later; see [LimitUnacked]. 0, the default of a new poller, leaves them
// to the kernel.
func (p *Poller) SetUnackedTimeout(d time.Duration) { p.unacked.Store(int64(d)) }

// UnackedTimeout returns the current timeout.
func (p *Poller) UnackedTimeout() time.Duration { return time.Duration(p.unacked.Load()) }

func (p *Poller) usesDirectTLS() bool { return p.directTLS.Load() && p.checkTLS() == nil }

// Close ends the poller. Watched connections are served to their end, and the poller's goroutine ends with the last
// connection. A connection that starts later is not polled: see [Conn.Start].
func (p *Poller) Close() {
	p.closed.Store(true)
	for p.idle.Load() > 0 { // a reader counts as idle shortly before receiving
		select {
		case p.ready <- nil:
		default:
			runtime.Gosched()
		}
	}
	p.epoll.close()
}
