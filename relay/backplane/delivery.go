package backplane

import (
	"math"
	"net"
	"sync"
	"sync/atomic"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/internal/tcptuning"
)

// delivery tells how far the bytes of an outbox have come. A Python node acknowledges no events, but its kernel
// acknowledges bytes. Positions count the bytes of the outbox.
// See docs/decisions/backplane.md#which-events-does-a-python-node-get-again
type delivery struct {
	socket *net.TCPConn // nil without TCP; set before the outbox is used

	accepted atomic.Uint64 // bytes that the outbox got
	taken    atomic.Uint64 // of these, bytes that the connection got; with TLS, before encryption
	last     atomic.Uint64 // position behind the last event; 0: the peer gets none
	orderly  atomic.Bool   // this node closes the connection, and the kernel may go on sending

	once  sync.Once // guards the fields below
	known bool      // the kernel has told
	// unarrived is the number of the last bytes of taken that the peer's kernel has not acknowledged, and unsent of
	// those that have never left. Both count encrypted bytes, if the connection uses TLS.
	unarrived, unsent int
}

// tracks reports whether the end of the connection shall tell what has arrived.
func (d *delivery) tracks() bool { return d.last.Load() > 0 && !d.orderly.Load() }

// settle learns what has arrived, and aborts the connection unless that is every event. It is called before the
// connection is closed: a closed one goes on sending, and tells nothing.
func (d *delivery) settle() {
	if !d.tracks() {
		return
	}
	d.once.Do(func() {
		before := d.taken.Load()
		queue, ok := d.queued()
		d.known, d.unarrived = ok, queue.Unacknowledged
		if !ok || behind(before, queue.Unacknowledged) >= d.last.Load() {
			return
		}
		queue, exact := tcptuning.Abort(d.socket)
		if d.unarrived = queue.Unacknowledged; exact {
			d.unsent = queue.Unsent
		}
	})
}

// queued returns the kernel's queue.
func (d *delivery) queued() (tcptuning.SendQueue, bool) {
	if d.socket == nil {
		return tcptuning.SendQueue{}, false
	}
	return tcptuning.Queued(d.socket)
}

// behind returns the position that is a number of bytes before another one.
func behind(position uint64, bytes int) uint64 {
	return position - min(position, uint64(bytes))
}

// bounds returns two positions of a connection that has ended, and whose writers have ended as well. The peer's kernel
// has all bytes up to arrived, and none from sent on.
func (d *delivery) bounds(secure bool) (arrived, sent uint64) {
	d.settle()
	taken := d.taken.Load()
	switch {
	case !d.known: // as for a closed connection: what the kernel got counts as arrived
		return taken, taken
	case secure: // encrypted bytes are more: these positions are lower than the true ones, and higher
		return arrivedUpTo(taken, d.unarrived, secure), taken
	}
	return arrivedUpTo(taken, d.unarrived, secure), behind(taken, d.unsent)
}

// tlsRecord is the largest number of bytes in a TLS record.
const tlsRecord = 16 << 10

// arrivedUpTo returns the position up to which the peer can read, of a connection that got bytes up to the position
// taken. A TLS record of which a part is missing cannot be read at all.
func arrivedUpTo(taken uint64, unarrived int, secure bool) uint64 {
	if secure && unarrived > 0 {
		unarrived += tlsRecord
	}
	return behind(taken, unarrived)
}

// writtenEvent is an event that was written to an outbox. Control frames of the reading goroutine may be before or
// behind it, so that the position of its end is between low and high.
type writtenEvent struct {
	*event
	low, high uint64
}

// never is the position of an event that was not written after all.
const never = math.MaxUint64

// writeEvents writes each event as a message of its own.
func (l *link) writeEvents(events []*event, frame func(*event) []byte) error {
	d := &l.out.delivery
	l.unwritten = nil // l.written has them
	for n, e := range events {
		message := frame(e)
		low := d.accepted.Load() + uint64(frameSize(len(message), l.dialed))
		d.last.Store(low)
		err := l.write(websocket.MessageText, message)
		high := max(low, d.accepted.Load())
		d.last.Store(high)
		l.written = append(l.written, writtenEvent{e, low, high})
		if err != nil {
			for _, e := range events[n+1:] {
				l.written = append(l.written, writtenEvent{e, never, never})
			}
			return err
		}
	}
	return nil
}

// frameSize is the size of a WebSocket frame in bytes. Clients mask their frames.
func frameSize(payload int, client bool) int {
	size := 2 + payload
	switch {
	case payload > math.MaxUint16:
		size += 8
	case payload > 125:
		size += 2
	}
	if client {
		size += 4
	}
	return size
}

// forgetArrived forgets the events that the peer's kernel has acknowledged.
func (l *link) forgetArrived() {
	if len(l.written) == 0 {
		return
	}
	d := &l.out.delivery
	arrived := d.taken.Load()
	if queue, ok := d.queued(); ok {
		arrived = arrivedUpTo(arrived, queue.Unacknowledged, l.secure)
	}
	n := 0
	for n < len(l.written) && l.written[n].high <= arrived {
		n++
	}
	kept := copy(l.written, l.written[n:])
	clear(l.written[kept:])
	l.written = l.written[:kept]
}

// settleWritten returns the events that have never left, in order, those of them that count as sent, and the number of
// events that may not have arrived. The link has ended.
func (l *link) settleWritten() (unsent []*event, counted map[*event]struct{}, lost int) {
	l.out.awaitWritten()
	arrived, sent := l.out.delivery.bounds(l.secure)
	counted = map[*event]struct{}{}
	for n, w := range l.written {
		if n >= l.counted && w.low <= sent { // it has left with the last write, whose end was not seen
			l.countSent(nil, 0, []*event{w.event})
		}
		switch {
		case w.low > sent:
			unsent = append(unsent, w.event)
			if n < l.counted {
				counted[w.event] = struct{}{}
			}
		case w.high > arrived:
			lost++
		}
	}
	l.written, l.counted = nil, 0
	return append(unsent, l.unwritten...), counted, lost
}
