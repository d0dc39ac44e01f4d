package outgoing

import (
	"bytes"
	"sync"
)

// pooledPiece is the capacity of copies that are used again: a frame or a few. Over HTTP/2 and HTTP/3 each frame is
// queued, and the garbage of the copies would double the heap of a busy process.
const pooledPiece = 512

var pieces = sync.Pool{New: func() any { return new([pooledPiece]byte) }}

// copyPiece returns a copy of b for the queue.
func copyPiece(b []byte) []byte {
	if len(b) > pooledPiece {
		return bytes.Clone(b)
	}
	return append(pieces.Get().(*[pooledPiece]byte)[:0], b...)
}

// recyclePiece takes a piece of the queue, which has been written. Only copies are short enough to be used again:
// longer frames are queued without a copy.
func recyclePiece(piece []byte) {
	if cap(piece) == pooledPiece {
		pieces.Put((*[pooledPiece]byte)(piece[:pooledPiece]))
	}
}
