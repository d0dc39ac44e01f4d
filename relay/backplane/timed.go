package backplane

import (
	"encoding/binary"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/relay"
)

// A timed batch is a binary frame between relays that both have the features resume and timed. It begins with its
// format, the time of sending and the wait of its first event in the sender's queue. Number and count follow as in a
// numbered batch, and then the events: plain, or compressed behind the uvarint of their length. Number and count are
// never compressed, so that the receiver of a damaged frame knows which events it lacks.

// featureTimed is the ability to read timed batches, and to answer messages about the clock.
const featureTimed = "timed"

// The formats of a timed batch.
const (
	formatPlain = 1 + iota
	formatZstd  // the events are a frame of Zstandard, RFC 8878

	lastFormat = formatZstd
)

// timedHead is the beginning of a timed batch.
type timedHead struct {
	// sent is the time of sending, on the sender's steady clock; see steadyMicros.
	sent int64
	// waited is the time that the batch's first event was queued by the sender.
	waited time.Duration
}

// steadyMicros returns t as microseconds since the process began. It does not jump when the wall clock is set.
func steadyMicros(t time.Time) int64 { return relay.Ticks(t) / int64(time.Microsecond) }

// appendTimedHead begins a timed batch.
func appendTimedHead(dst []byte, format byte, head timedHead) []byte {
	dst = binary.AppendVarint(append(dst, format), head.sent)
	return binary.AppendUvarint(dst, uint64(max(head.waited, 0)/time.Microsecond))
}

// sendTimed sends events of the peer's stream, of which the first has a number.
func (l *link) sendTimed(number uint64, events []*event, now time.Time) error {
	size := 0
	for _, e := range events {
		size += e.cost()
	}
	head := timedHead{sent: steadyMicros(now), waited: now.Sub(events[0].since)}
	unacknowledged := time.Duration(0)
	if s := l.stream.Load(); s != nil {
		unacknowledged = s.queue.oldestSent(now)
	}
	if l.slowness.compresses(now, head.waited, unacknowledged, size) {
		if batch := l.compressBatch(head, number, events, size); batch != nil {
			return l.write(websocket.MessageBinary, batch)
		}
	}
	return l.write(websocket.MessageBinary, l.plainBatch(head, number, events, size))
}

// plainBatch returns a batch of about size bytes that is not compressed.
func (l *link) plainBatch(head timedHead, number uint64, events []*event, size int) []byte {
	batch := appendTimedHead(make([]byte, 0, size), formatPlain, head)
	batch = appendNumberedHead(batch, number, len(events))
	for _, e := range events {
		batch = appendNumbered(batch, e, l.types)
	}
	return batch
}

// decodeTimed reads a timed batch without the events up to the number after. No more than limit bytes are
// decompressed. Invalid events are skipped, and bad is called with the reason. It returns false if the head is broken.
// If the events cannot be decompressed, all of them are unread.
func decodeTimed(b []byte, after uint64, limit int, bad func(fault)) (head timedHead, batch numberedBatch, ok bool) {
	r := &numberedReader{b: b}
	format := r.bytes(1)
	head.sent = r.varint()
	waited := r.uvarint()
	head.waited = time.Duration(min(waited, uint64(maxWaited/time.Microsecond))) * time.Microsecond
	first, count := r.uvarint(), r.uvarint()
	if r.broken || format[0] == 0 || format[0] > lastFormat {
		bad(faultBroken)
		return head, batch, false
	}
	events, size := r.b, uint64(len(r.b))
	if format[0] == formatZstd {
		size = r.uvarint()
		events = r.b
	}
	if r.broken || !validNumbers(first, count, size) {
		bad(faultBroken)
		return head, batch, false
	}
	batch.first, batch.last = first, first+count-1
	if format[0] == formatZstd {
		var why fault
		if events, why = decompress(events, size, limit); why != "" {
			bad(why)
			batch.unread = int(min(count, batch.last-min(after, batch.last), 1<<31))
			return head, batch, true
		}
	}
	batch.readEvents(&numberedReader{b: events}, after, bad)
	return head, batch, true
}

// maxWaited bounds the wait that a peer can report.
const maxWaited = 24 * time.Hour
