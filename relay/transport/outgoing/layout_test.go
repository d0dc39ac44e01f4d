package outgoing

import (
	"testing"
	"unsafe"
)

// A write must find everything in the first cache line of a Conn.
func TestWriteNeedsOneCacheLine(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		return // the figures are those of 64 bits
	}
	var c Conn
	const line, head = 64, 24 // io's lock, descriptor, activity and kind of writer
	if end := unsafe.Offsetof(c.io) + head; end > line {
		t.Errorf("the fields of a write take %d bytes, more than a cache line", end)
	}
}
