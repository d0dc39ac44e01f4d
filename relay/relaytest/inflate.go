package relaytest

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
)

// Inflater decodes the compressed messages of a server as a client does that follows RFC 7692 to the letter: with a
// window of its own, of which it keeps no byte more than was agreed.
type Inflater struct {
	// Bits is the base-2 logarithm of the window's size, server_max_window_bits; 0 is 15.
	Bits int
	// Forgets is set after the agreement of server_no_context_takeover: each message begins with an empty window.
	Forgets bool

	window []byte
}

// Message returns the text of a message with RSV1 set.
func (i *Inflater) Message(compressed []byte) (text []byte, err error) {
	// 00 00 FF FF completes the last block (RFC 7692, section 7.2.2). The empty final block behind is for package flate.
	data := io.MultiReader(bytes.NewReader(compressed), bytes.NewReader([]byte("\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	r := flate.NewReaderDict(data, i.window)
	text, err = io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("inflating a message of %d bytes with a window of %d: %w", len(compressed), len(i.window), err)
	}
	if i.Forgets {
		return text, nil
	}
	bits := i.Bits
	if bits == 0 {
		bits = 15
	}
	i.window = append(i.window, text...)
	i.window = bytes.Clone(i.window[max(0, len(i.window)-1<<bits):])
	return text, nil
}
