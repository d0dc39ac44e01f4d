package sse

import (
	"testing"
	"unsafe"
)

// An idle Conn must not outgrow its size class.
func TestConnIsCompact(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		return // the figures are those of 64 bits
	}
	if size := unsafe.Sizeof(Conn{}); size > 208 {
		t.Errorf("a Conn takes %d bytes, want at most 208", size)
	}
}
