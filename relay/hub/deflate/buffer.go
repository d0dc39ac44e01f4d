package deflate

import (
	"encoding/binary"
	"sync"

	"github.com/edgerelay/edgerelay/relay"
)

// Buffer is a buffer of frames in all forms. Methods may be called concurrently.
type Buffer struct {
	relay.Compressed
	compressor *Compressor
	frames     Frames
	dictionary []byte // the end of the message Previous
	forms      [relay.FormCount]form
}

// form is a form that is made on first use.
type form struct {
	once   sync.Once
	frames []byte
}

// Frames returns the frames in a form, which must not be changed. Frames takes some microseconds for the first client
// that needs a form, in proportion to the bytes. [relay.Chained] requires a Previous.
func (b *Buffer) Frames(f relay.Form) []byte {
	switch {
	case f == relay.Plain:
		return b.frames.Bytes
	case f == relay.Each && b.frames.Count == 1:
		f = relay.Alone
	}
	made := &b.forms[f]
	made.once.Do(func() { made.frames = b.compress(f) })
	return made.frames
}

// compress makes a form.
func (b *Buffer) compress(f relay.Form) []byte {
	w := getWriter(b.compressor.settings.Level)
	defer w.release()
	if f == relay.Chained {
		w.begin(b.dictionary)
	} else {
		w.begin(nil)
	}
	for rest := b.frames.Bytes; len(rest) > 0; {
		head, end := frameEnds(rest)
		switch text := rest[head:end]; {
		case len(text) < b.compressor.settings.MinSize:
			w.frames = append(w.frames, rest[:end]...)
		default:
			w.add(rest[0], text)
			if f == relay.Each {
				w.forget()
			}
		}
		rest = rest[end:]
	}
	return w.result()
}

// frameEnds returns the ends of the first frame's head and of the whole frame. [relay.AppendFrame] has made the frame.
func frameEnds(frames []byte) (head, end int) {
	switch n := frames[1]; n {
	case 126:
		return 4, 4 + int(binary.BigEndian.Uint16(frames[2:]))
	case 127:
		return 10, 10 + int(binary.BigEndian.Uint64(frames[2:]))
	default:
		return 2, 2 + int(n)
	}
}
