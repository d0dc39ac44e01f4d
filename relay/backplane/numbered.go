package backplane

import (
	"encoding/binary"
	"time"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay"
)

// A numbered batch is a binary frame between relays that both have the feature resume. It begins with the number of its
// first event and the count of events, as uvarints. Each event has its group behind a uvarint of its length, a byte of
// flags, 16 bytes of position, 8 bytes of time, type and sender as the flags say, and its text behind a uvarint of its
// length. Numbers are big-endian.

// The flags of an event.
const (
	hasPosition    = 1 << iota // 8 bytes of Unix microseconds and 8 bytes of mark follow
	hasSent                    // 8 bytes of Unix microseconds follow: the time at which the emitter published the event
	sentAtPosition             // that time is the position's
	isRefill                   // the event was read from the history
	hasType                    // the event's type and its sender follow, each behind a byte with the length

	allFlags = hasPosition | hasSent | sentAtPosition | isRefill | hasType
)

// numberedBatch is a decoded batch.
type numberedBatch struct {
	first   uint64 // number of the first event
	last    uint64 // of the last one
	skipped int    // events that the receiver has
	unread  int    // events behind broken framing
	events  []relay.Event
	refills []int // indexes of events that were read from the history
}

// appendNumberedHead begins a batch.
func appendNumberedHead(dst []byte, number uint64, count int) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, number), uint64(count))
}

// appendNumbered writes an event of a batch. types: the peer has the feature types.
func appendNumbered(dst []byte, e *event, types bool) []byte {
	dst = append(binary.AppendUvarint(dst, uint64(len(e.group))), e.group...)
	flags := byte(0)
	if !e.position.IsZero() {
		flags |= hasPosition
	}
	switch {
	case e.sent == 0:
	case flags != 0 && e.sent == e.position.Micros:
		flags |= sentAtPosition
	default:
		flags |= hasSent
	}
	if e.refill {
		flags |= isRefill
	}
	if types && (e.kind != "" || e.sender != "") {
		flags |= hasType
	}
	dst = append(dst, flags)
	if flags&hasPosition != 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(e.position.Micros))
		dst = binary.BigEndian.AppendUint64(dst, e.position.Mark)
	}
	if flags&hasSent != 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(e.sent))
	}
	if flags&hasType != 0 {
		dst = append(append(dst, byte(len(e.kind))), e.kind...)
		dst = append(append(dst, byte(len(e.sender))), e.sender...)
	}
	return append(binary.AppendUvarint(dst, uint64(len(e.text))), e.text...)
}

// numberedReader reads a batch piece by piece.
type numberedReader struct {
	b      []byte
	broken bool
}

func (r *numberedReader) uvarint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.b, r.broken = nil, true
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *numberedReader) varint() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.b, r.broken = nil, true
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *numberedReader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.b, r.broken = nil, true
		return nil
	}
	part := r.b[:n]
	r.b = r.b[n:]
	return part
}

// short reads a string behind a byte with its length.
func (r *numberedReader) short() string {
	if b := r.bytes(1); b != nil {
		return string(r.bytes(uint64(b[0])))
	}
	return ""
}

func (r *numberedReader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// decodeNumbered reads a batch without the events up to the number after. The texts are slices of b. Invalid events are
// skipped, and bad is called with the reason. It returns false if the head is broken.
func decodeNumbered(b []byte, after uint64, bad func(fault)) (batch numberedBatch, ok bool) {
	r := &numberedReader{b: b}
	first, count := r.uvarint(), r.uvarint()
	if r.broken || !validNumbers(first, count, uint64(len(b))) {
		bad(faultBroken)
		return batch, false
	}
	batch.first, batch.last = first, first+count-1
	batch.readEvents(r, after, bad)
	return batch, true
}

// validNumbers checks the number of the first event and the count of events in size bytes.
func validNumbers(first, count, size uint64) bool {
	return first > 0 && count <= size && first+count >= first
}

// readEvents reads the events, whose numbers are known.
func (batch *numberedBatch) readEvents(r *numberedReader, after uint64, bad func(fault)) {
	for number := batch.first; number <= batch.last; number++ {
		ev, refill := r.event()
		switch {
		case r.broken:
			bad(faultBroken)
			batch.unread = int(batch.last - number + 1)
			return
		case number <= after:
			batch.skipped++
		case checkGroup(ev.Group) != nil:
			bad(faultGroup)
		case !utf8.Valid(ev.Text) || !utf8.ValidString(ev.Type) || !utf8.ValidString(ev.Sender):
			bad(faultUTF8)
		default:
			if refill {
				batch.refills = append(batch.refills, len(batch.events))
			}
			batch.events = append(batch.events, ev)
		}
	}
	if len(r.b) > 0 {
		bad(faultBroken)
	}
}

// event reads an event.
func (r *numberedReader) event() (ev relay.Event, refill bool) {
	ev.Source = relay.FromPeer
	ev.Group = string(r.bytes(r.uvarint()))
	head := r.bytes(1)
	if head == nil || head[0]&^allFlags != 0 {
		r.b, r.broken = nil, true
		return ev, false
	}
	flags := head[0]
	if flags&hasPosition != 0 {
		ev.Position = relay.Position{Micros: int64(r.uint64()), Mark: r.uint64()}
	}
	switch {
	case flags&hasSent != 0:
		ev.Sent = time.UnixMicro(int64(r.uint64()))
	case flags&sentAtPosition != 0:
		ev.Sent = time.UnixMicro(ev.Position.Micros)
	}
	if flags&hasType != 0 {
		ev.Type, ev.Sender = r.short(), r.short()
	}
	ev.Text = r.bytes(r.uvarint())
	return ev, flags&isRefill != 0
}
