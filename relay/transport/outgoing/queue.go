package outgoing

import (
	"bytes"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// smallPiece is the length up to which queued frames are copied. A slice of the original would keep a whole buffer
	// in memory, with frames for other clients.
	smallPiece = 4 << 10
	// chunk is the size of the pieces in which copies are collected. A piece for each would take half as much again.
	chunk = 16 << 10
	// maxPooledPieces bounds the list of a queue that is used again.
	maxPooledPieces = 64
)

// kind is what a piece of a queue is for, which decides whether the piece may be dropped.
type kind uint8

const (
	// events may be dropped for a client that cannot take all.
	events kind = iota
	// answers stay: the client waits for them.
	answers
	// notices stay, and tell the client that events before them were dropped.
	notices
)

// piece is a part of a queue. A piece begins with a whole frame, unless it is the head.
type piece struct {
	bytes []byte
	kind  kind
}

// queue is the bytes that wait for a socket. It exists while there are any, so that a connection at rest pays for a
// pointer. The lock of the Conn guards it.
type queue struct {
	pieces  []piece // pieces[head:] is queued, oldest first; flush is writing the first of them
	head    int
	bytes   int  // of all pieces
	kept    int  // of pieces that must not be dropped, except the first
	growing bool // frames can be appended to the last piece, which is a copy

	// Of a client that had events dropped since the queue was empty: when a period began, and how many bytes the client
	// has taken since.
	since time.Time
	taken int
}

var queues = sync.Pool{New: func() any { return new(queue) }}

func newQueue() *queue { return queues.Get().(*queue) }

// release takes a queue that nothing refers to.
func (q *queue) release() {
	clear(q.pieces)
	pieces := q.pieces[:0]
	if cap(pieces) > maxPooledPieces {
		pieces = nil
	}
	*q = queue{pieces: pieces}
	queues.Put(q)
}

// len returns the number of pieces.
func (q *queue) len() int { return len(q.pieces) - q.head }

// first returns the bytes that flush is writing, nil if there are none.
func (q *queue) first() []byte {
	if q.len() == 0 {
		return nil
	}
	return q.pieces[q.head].bytes
}

// add appends bytes.
func (q *queue) add(b []byte, k kind) {
	q.bytes += len(b)
	if k != events && q.len() > 0 {
		q.kept += len(b)
	}
	switch last := len(q.pieces) - 1; {
	case len(b) > smallPiece:
		q.append(piece{b, k}, false)
	case q.len() < 2 || !q.growing || q.pieces[last].kind != k || k == notices || // flush has the first piece
		len(q.pieces[last].bytes)+len(b) > chunk:
		q.append(piece{copyPiece(b), k}, true)
	default:
		tail := q.pieces[last].bytes
		if need := len(tail) + len(b); need > cap(tail) {
			tail = append(make([]byte, 0, min(chunk, max(need, 2*cap(tail)))), tail...)
		}
		q.pieces[last].bytes = append(tail, b...)
	}
}

func (q *queue) append(p piece, growing bool) {
	if len(q.pieces) == cap(q.pieces) && q.head > len(q.pieces)/2 {
		n := copy(q.pieces, q.pieces[q.head:])
		clear(q.pieces[n:])
		q.pieces, q.head = q.pieces[:n], 0
	}
	q.pieces, q.growing = append(q.pieces, p), growing
}

// removeFirst removes the first piece, whose n bytes have been written.
func (q *queue) removeFirst(n int) {
	if q.len() == 0 {
		return
	}
	recyclePiece(q.pieces[q.head].bytes)
	q.pieces[q.head] = piece{}
	q.head++
	q.bytes -= n
	if q.len() > 0 && q.pieces[q.head].kind != events { // it is written in any case
		q.kept -= len(q.pieces[q.head].bytes)
	}
}

// beyondFirst returns the number of bytes that flush has not begun to write.
func (q *queue) beyondFirst() int { return q.bytes - len(q.first()) }

// cut drops everything behind the first piece.
func (q *queue) cut() {
	q.drop(func(kind) bool { return true }, func([]byte) {})
}

// dropEvents drops the events behind the first piece, and calls dropped with the frames of each piece.
func (q *queue) dropEvents(dropped func(frames []byte)) {
	q.drop(func(k kind) bool { return k == events }, dropped)
}

// drop drops the pieces behind the first one whose kind is among those to drop.
func (q *queue) drop(droppable func(kind) bool, dropped func(frames []byte)) {
	if q.len() == 0 {
		return
	}
	left := q.pieces[:q.head+1]
	for _, p := range q.pieces[q.head+1:] {
		if !droppable(p.kind) {
			left = append(left, p)
			continue
		}
		dropped(p.bytes)
		q.bytes -= len(p.bytes)
		if p.kind != events {
			q.kept -= len(p.bytes)
		}
	}
	clear(q.pieces[len(left):])
	q.pieces, q.growing = left, false
}

// endsWithNotice reports whether the client knows, when it has taken the queue, that events were dropped behind it. The
// client may have taken the first piece already.
func (q *queue) endsWithNotice() bool {
	return q.len() > 1 && q.pieces[len(q.pieces)-1].kind == notices
}

// isHopeless reports whether a client whose queue was full again has taken less than a full queue since a period began.
// Otherwise, a period begins when the last one is over.
// See docs/decisions/hub.md#why-does-a-full-queue-not-close-a-client
func (q *queue) isHopeless(now time.Time, limit int, period time.Duration) bool {
	switch {
	case q.since.IsZero():
		q.since, q.taken = now, 0
	case period > 0 && now.Sub(q.since) >= period:
		slow := q.taken < limit
		q.since, q.taken = now, 0
		return slow
	}
	return false
}

// countFrames returns the number of whole frames.
func countFrames(b []byte) (n int) {
	for len(b) > 0 {
		_, _, b = relay.CutFrame(b)
		n++
	}
	return n
}

// EventCounter is a [Protocol] whose queue does not consist of WebSocket frames. If absent, it does.
type EventCounter interface {
	// CountEvents returns the number of events in bytes that were queued.
	CountEvents(b []byte) int
}

// copyForQueue returns frames that the queue may keep. It copies a buffer that the caller uses again, except for short
// frames, which add copies in any case.
func copyForQueue(frames []byte, borrowed bool) []byte {
	if borrowed && len(frames) > smallPiece {
		return bytes.Clone(frames)
	}
	return frames
}
