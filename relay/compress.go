package relay

// Compressed describes the forms of a buffer of frames for clients that agreed on permessage-deflate (RFC 7692). All
// clients share them: an event is compressed alone and against the previous event of its group, each at most once and
// only if a client needs it. No client has a compressor.
// See docs/decisions/transport.md#why-is-an-event-compressed-for-everybody-at-once
type Compressed struct {
	// Previous and Last identify compressed messages within the process: the one to which the form [Chained] refers, and
	// the last one of the buffer. Previous is 0 if there is none. Last is never 0.
	Previous, Last uint64
	// Window is the number of bytes, by Form, to which a reference of the form may reach back.
	Window [FormCount]int
}

// Form is a form of a buffer of frames.
type Form uint8

// The forms of a buffer of frames.
const (
	// Plain is the uncompressed frames, which every client can read. They leave the client's window as it is.
	Plain Form = iota
	// Alone is for any client that keeps a window: the first compressed message refers to no other, each later one to
	// those before it in the buffer.
	Alone
	// Chained is for clients whose last compressed message was Previous: the first compressed message refers to that
	// one, each later message to those before it.
	Chained
	// Each is for clients that keep no window (server_no_context_takeover): no message refers to another.
	Each
	// FormCount is the number of forms.
	FormCount
)

// String returns the name of the form in metrics.
func (f Form) String() string { return [...]string{"plain", "alone", "chained", "each"}[f] }

// Deflater is a [Socket] whose client may have agreed on compression. Without it, a client gets plain frames.
type Deflater interface {
	// Deflates reports whether the client has agreed on compression. The result does not change while the socket is in a
	// [Session].
	Deflates() bool
	// Choose returns the form of a buffer that the client can decode. The engine then sends the buffer in this form,
	// before it sends the buffer of a later call. Calls must not overlap, and a socket that does not deflate gets none.
	// [Window.Choose] is the choice of a websocket.
	Choose(c *Compressed) Form
}

// Window is the relay's knowledge of a client's decompressor: the result of the negotiation, and the last compressed
// message. A Window takes eight bytes, so that it fits into a connection at rest. The zero Window is a client that has
// not agreed on compression. The methods must not be called concurrently.
type Window uint64

// Bounds of the base-2 logarithm of a window's size (RFC 7692, section 7.1.2).
const (
	MinWindowBits = 8
	MaxWindowBits = 15
)

// A Window has the size in the lowest four bits, a bit for clients that keep a window, and the last compressed message
// above.
const (
	windowSize  Window = 1<<4 - 1
	windowKept  Window = 1 << 4
	windowShift        = 5
)

// NewWindow returns the Window of a client that has agreed on compression: with a window of 1<<bits bytes, which is
// server_max_window_bits, 15 if the client has not limited it; kept from message to message unless the agreement is
// server_no_context_takeover. Bits outside the bounds are brought within them.
func NewWindow(bits int, kept bool) Window {
	w := Window(min(max(bits, MinWindowBits), MaxWindowBits))
	if kept {
		w |= windowKept
	}
	return w
}

// Deflates reports whether the client has agreed on compression.
func (w Window) Deflates() bool { return w != 0 }

// Forget records that the client may not get the last compressed message. The next one refers to no other.
func (w *Window) Forget() { *w &= windowSize | windowKept }

// Choose returns the form of a buffer that the client can decode, and records that the client gets it.
func (w *Window) Choose(c *Compressed) Form {
	size := 1 << (*w & windowSize)
	form := Alone
	switch last := uint64(*w >> windowShift); {
	case *w == 0:
		return Plain
	case *w&windowKept == 0:
		form = Each
	case c.Previous != 0 && last == c.Previous && c.Window[Chained] <= size:
		form = Chained
	}
	if c.Window[form] > size {
		if form != Alone || c.Window[Each] > size {
			return Plain
		}
		form = Each // the last message enters the window as in any form
	}
	*w = *w&(windowSize|windowKept) | Window(c.Last<<windowShift)
	return form
}
