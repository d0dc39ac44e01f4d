package hub

import (
	"testing"
	"unsafe"
)

// Positions cost plain clients no memory, and formats 16 bytes: the objects have the sizes that they had before, but
// for a field of Session.
func TestSizesOfPlainObjects(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the sizes are for 64 bits")
	}
	for name, size := range map[string][2]uintptr{
		"audience":     {unsafe.Sizeof(audience{}), 64},
		"subscription": {unsafe.Sizeof(subscription{}), 48},
		"membership":   {unsafe.Sizeof(membership{}), 48},
		"Session":      {unsafe.Sizeof(Session{}), 240},
	} {
		if size[0] > size[1] {
			t.Errorf("%s has %d bytes, want at most %d", name, size[0], size[1])
		}
	}
}
