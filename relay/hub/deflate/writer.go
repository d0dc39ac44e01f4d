package deflate

import (
	"bytes"
	"sync"

	"github.com/klauspost/compress/flate"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// compressedBit marks the first frame of a compressed message: RSV1 (RFC 7692, section 7.2.3.1).
	compressedBit = 0x40
	// flushTail is the number of bytes at the end of a flush, 00 00 FF FF, that a message leaves out (section 7.2.1).
	flushTail = 4
	// maxKept bounds the memory that a writer keeps for the next buffer.
	maxKept = 256 << 10
)

// writer compresses messages. A writer has about 0.8 MB of tables, which is why there are few, and they are kept.
// See docs/decisions/transport.md#why-does-klauspostcompress-compress
type writer struct {
	level   int
	flate   *flate.Writer
	message sink
	frames  []byte
}

// sink collects the bytes of a message.
type sink []byte

// Write implements [io.Writer].
func (s *sink) Write(b []byte) (int, error) {
	*s = append(*s, b...)
	return len(b), nil
}

// writers are the writers that are not in use, by level. Those that are not needed any more are garbage.
var writers [flate.BestCompression + 1]sync.Pool

// getWriter returns a writer for a valid level.
func getWriter(level int) *writer {
	if w, ok := writers[level].Get().(*writer); ok {
		return w
	}
	w := &writer{level: level}
	w.flate, _ = flate.NewWriter(&w.message, level)
	return w
}

// release gives the writer back.
func (w *writer) release() { writers[w.level].Put(w) }

// begin begins a buffer of frames, whose messages may refer to the dictionary.
func (w *writer) begin(dictionary []byte) {
	w.frames = w.frames[:0]
	w.flate.ResetDict(&w.message, dictionary)
}

// forget makes the next message refer to no other.
func (w *writer) forget() { w.flate.ResetDict(&w.message, nil) }

// add appends the compressed frame of a message.
func (w *writer) add(opcode byte, text []byte) {
	w.message = w.message[:0]
	_, _ = w.flate.Write(text) // a sink does not fail
	_ = w.flate.Flush()
	at := len(w.frames)
	w.frames = relay.AppendFrame(w.frames, w.message[:len(w.message)-flushTail])
	w.frames[at] = opcode | compressedBit
}

// result returns the frames, in memory of their own.
func (w *writer) result() []byte {
	frames := bytes.Clone(w.frames)
	if cap(w.frames) > maxKept {
		w.frames = nil
	}
	if cap(w.message) > maxKept {
		w.message = nil
	}
	return frames
}
