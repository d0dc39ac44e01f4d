package asgi

import (
	"runtime"
	"strings"
	"testing"
)

// allocated is how many bytes f takes from the heap.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Messages of a few bytes that claim to hold gigabytes are errors, and take no memory.
func TestShortMessagesWithHugeLengths(t *testing.T) {
	const most = 3 << 20
	for _, raw := range []string{
		"\xdf\xff\xff\xff\xff", "\xde\xff\xff", "\x81\xdb\xff\xff\xff\xff", "\x81\xa4text\xdb\xff\xff\xff\xff",
		"\x81\xa4text\xc6\xff\xff\xff\xff", "\x81\xa4type\xdb\x7f\xff\xff\xff", "\x81\xa6groups\xdd\xff\xff\xff\xff",
		"\x81\xb0__asgi_channel__\xdd\x7f\xff\xff\xff",
		"\x81\xa1x\xdd\xff\xff\xff\xff", "\x81\xa1x\xdf\xff\xff\xff\xff", "\x81\xa1x\xc9\xff\xff\xff\xff\x01",
		"\x81\xa1x" + strings.Repeat("\x91", 100_000), "\x81\xa1x" + strings.Repeat("\x81\xa1x", 100_000),
	} {
		var err error
		if size := allocated(func() { _, err = decodeMsgpack([]byte(raw)) }); err == nil || size > most {
			t.Errorf("%.40q: %d bytes, %v", raw, size, err)
		}
	}
	for _, raw := range []string{
		strings.Repeat("[", 100_000), strings.Repeat(`{"text":`, 100_000),
		`{"text": "` + strings.Repeat("x", 1000), `{"__asgi_channel__": ` + strings.Repeat("[", 100_000),
	} {
		var err error
		if size := allocated(func() { _, err = decodeJSON([]byte(raw), false) }); err == nil || size > 8<<20 {
			t.Errorf("%.40q: %d bytes, %v", raw, size, err)
		}
	}
}
