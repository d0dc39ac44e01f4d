package ws

import (
	"testing"
	"unsafe"
)

// A write must find everything in the first cache line of a Conn, and an idle Conn must not outgrow its size class.
func TestConnIsCompact(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		return // the figures are those of 64 bits
	}
	var c Conn
	const line, head = 64, 24 // io's lock, descriptor, activity and kind of writer
	if end := unsafe.Offsetof(c.io) + head; end > line {
		t.Errorf("the fields of a write take %d bytes, more than a cache line", end)
	}
	if size := unsafe.Sizeof(c); size > 192 {
		t.Errorf("a Conn takes %d bytes, want at most 192", size)
	}
}
