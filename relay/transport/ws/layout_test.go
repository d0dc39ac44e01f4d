package ws

import (
	"testing"
	"unsafe"
)

// An idle Conn must not outgrow its size class. The write's part of it is tested in package outgoing.
func TestConnIsCompact(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		return // the figures are those of 64 bits
	}
	var c Conn
	if offset := unsafe.Offsetof(c.Conn); offset != 0 {
		t.Errorf("the outgoing side begins at %d, want 0", offset)
	}
	if size := unsafe.Sizeof(c); size > 192 {
		t.Errorf("a Conn takes %d bytes, want at most 192", size)
	}
}
