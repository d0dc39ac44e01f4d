package relay_test

import (
	"bytes"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

func TestCutFrame(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 0xffff, 0x10000, 70_000} {
		payload := bytes.Repeat([]byte("x"), n)
		frames := relay.AppendFrame(relay.AppendFrame(nil, payload), []byte("next"))
		got, kind, rest := relay.CutFrame(frames)
		if kind != relay.TextFrame || !bytes.Equal(got, payload) || len(rest) != 2+len("next") {
			t.Errorf("%d bytes: got a frame of kind %v, %d bytes, and a rest of %d", n, kind, len(got), len(rest))
		}
	}
	binary := relay.AppendFrame(nil, []byte("x"))
	binary[0] = 0x82
	if _, kind, _ := relay.CutFrame(binary); kind != relay.BinaryFrame {
		t.Errorf("a binary frame is of kind %v", kind)
	}
}

func FuzzCutFrame(f *testing.F) {
	f.Add(relay.AppendFrame(nil, []byte("text")))
	f.Add([]byte{0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, frames []byte) {
		for len(frames) > 0 {
			payload, _, rest := relay.CutFrame(frames)
			if len(payload)+len(rest) >= len(frames) {
				t.Fatal("a frame has no head")
			}
			frames = rest
		}
	})
}
