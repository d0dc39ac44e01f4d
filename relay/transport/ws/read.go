package ws

import "github.com/edgerelay/edgerelay/relay"

// firstPiece is the memory that a message gets before its bytes have arrived.
const firstPiece = 512

// reader is the state of a connection that is being read. An idle connection has none.
type reader struct {
	c          *Conn
	in         []byte // in[start:end] has been read from the connection and not been used
	start, end int
	incoming
	lasting bool // the reader's goroutine waits for the client's bytes and must keep a small stack
}

// incoming is a message that is being read.
type incoming struct {
	bytes   []byte
	checked int // length of the prefix of bytes that is known to be UTF-8
	begun   bool
	text    bool
	// compressed means that bytes is a payload that must be inflated.
	compressed bool
}

// Attend hands the client's messages to h until the connection ends, and returns at once. Pings are answered. A client
// that breaks the protocol is closed with the matching code.
//
// While nothing arrives, no goroutine waits, if netpoll can poll the connection. A reader waits only for the rest of a
// message that has begun. A stream is read by the goroutine that serves its request, after the handshake.
func (c *Conn) Attend(h Handler) {
	c.handler = h
	if s := c.stream(); s != nil {
		s.Serve(c)
		return
	}
	if !c.IO().Start(c.early != nil) {
		go c.readUntilEnd()
	}
}

// ReadReady implements [netpoll.Owner].
func (c *Conn) ReadReady(scratch []byte) {
	r := reader{c: c, in: scratch}
	if err := r.readAvailable(); err != nil {
		c.end(err)
	}
}

// readAvailable reads messages until the connection rests.
func (r *reader) readAvailable() error {
	for drained := false; ; {
		if r.betweenMessages() {
			n, last, err := r.c.IO().ReadOrRest(r.in, drained)
			if err != nil || n == 0 {
				return err
			}
			r.c.Touch()
			r.start, r.end, drained = 0, n, last
		}
		if err := r.readFrame(); err != nil {
			return err
		}
	}
}

// readUntilEnd reads a connection that cannot be polled.
func (c *Conn) readUntilEnd() {
	r := &reader{c: c, in: make([]byte, 64), lasting: true}
	for {
		if err := r.readFrame(); err != nil {
			c.end(err)
			return
		}
	}
}

// betweenMessages reports whether all bytes read so far belong to complete messages.
func (r *reader) betweenMessages() bool { return !r.begun && r.start == r.end && r.c.early == nil }

// readFrame reads a frame, and delivers the message that it completes. An error ends the connection.
func (r *reader) readFrame() error {
	h, err := r.readHeader()
	if err == nil {
		err = r.readBody(h)
	}
	if err != nil || h.opcode >= opClose || !h.fin {
		return err
	}
	m := r.incoming
	r.incoming = incoming{}
	if r.c.IsOpen() { // after our close frame, only the answer matters
		if m.compressed {
			if err := r.inflateMessage(&m); err != nil {
				return err
			}
		}
		r.deliver(m)
		if r.end > r.start {
			r.c.Touch() // the client sent these bytes before the handler returned
		}
	}
	return nil
}

// deliver calls the handler. Decoding JSON needs a deep stack, which a goroutine then keeps. So a goroutine that lasts
// as long as the client calls the handler on a new goroutine.
func (r *reader) deliver(m incoming) {
	if !r.lasting {
		r.c.handler.Message(m.text, m.bytes)
		return
	}
	done, h := make(chan struct{}), r.c.handler
	go func() {
		defer close(done)
		h.Message(m.text, m.bytes)
	}()
	<-done
}

// readBody reads the part of a frame after its head. After the last frame of a message, r.incoming is that message.
func (r *reader) readBody(h header) error {
	m := &r.incoming
	if h.opcode >= opClose {
		if h.opcode != opClose && r.c.tooManyIdle(tinyFragmentPart) {
			return violation{relay.ClosePolicy, "too many pings and pongs"}
		}
		return r.readControl(h)
	}
	if !h.fin && h.length < tinyFragment {
		parts := uint16(1)
		if h.length == 0 {
			parts = tinyFragmentPart
		}
		if r.c.tooManyIdle(parts) {
			return violation{relay.ClosePolicy, "too many tiny fragments"}
		}
	}
	switch {
	case h.opcode > opBinary:
		return violation{codeProtocol, "unknown opcode"}
	case m.begun != (h.opcode == opContinuation):
		return violation{codeProtocol, "fragment out of order"}
	}
	if !m.begun {
		m.begun, m.text, m.compressed = true, h.opcode == opText, h.compressed
	}
	if h.length > uint64(max(0, r.payloadLimit()-len(m.bytes))) {
		return errTooLong
	}
	if err := r.readPayload(m, h); err != nil {
		return err
	}
	if h.fin && m.isText() && m.checked < len(m.bytes) {
		return errNotUTF8
	}
	return nil
}

// payloadLimit returns the length of the longest payload of the current message.
func (r *reader) payloadLimit() int {
	limit := r.c.limit()
	if r.compressed {
		return maxPayload(limit)
	}
	return limit
}

// isText reports whether the bytes are text as they are.
func (m *incoming) isText() bool { return m.text && !m.compressed }

// readPayload appends a frame's payload to m. Memory grows with the bytes that arrive, not with the announced length.
func (r *reader) readPayload(m *incoming, h header) error {
	start := len(m.bytes)
	for end := start + int(h.length); len(m.bytes) < end; {
		n, err := r.readSome(m.grow(start, end))
		if err != nil {
			return err
		}
		if !m.add(n, start, h.mask) {
			return errNotUTF8
		}
	}
	return nil
}

// grow returns the memory for the next bytes of a frame, which begins and ends at lengths of the message.
func (m *incoming) grow(start, end int) []byte {
	n := len(m.bytes)
	if n == cap(m.bytes) {
		more := min(end-n, max(firstPiece, n))
		if start > 0 { // further fragments may follow, and each would have everything copied
			more = max(more, n/2)
		}
		grown := make([]byte, n, n+more)
		copy(grown, m.bytes)
		m.bytes = grown
	}
	return m.bytes[n:min(cap(m.bytes), end)]
}

// add makes n bytes of the memory from grow part of the message. The payload of the frame begins at start. add returns
// false if the text cannot become valid UTF-8.
func (m *incoming) add(n, start int, mask [4]byte) (ok bool) {
	at := len(m.bytes)
	m.bytes = m.bytes[:at+n]
	unmask(m.bytes[at:], mask, at-start)
	if !m.isText() {
		return true
	}
	whole, ok := wholeRunes(m.bytes[m.checked:])
	m.checked += whole
	return ok
}

// readExactly returns the next n bytes, which are valid until the next read; n is at most len(r.in).
func (r *reader) readExactly(n int) ([]byte, error) {
	for r.end-r.start < n {
		if r.start > 0 {
			r.end = copy(r.in, r.in[r.start:r.end])
			r.start = 0
		}
		m, err := r.c.readConn(r.in[r.end:])
		r.end += m
		if err != nil && r.end-r.start < n {
			return nil, err
		}
	}
	b := r.in[r.start : r.start+n]
	r.start += n
	return b, nil
}

// readSome reads at least one byte into b.
func (r *reader) readSome(b []byte) (int, error) {
	if r.end > r.start {
		n := copy(b, r.in[r.start:r.end])
		r.start += n
		return n, nil
	}
	for {
		n, err := r.c.readConn(b)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// readConn reads from the connection, after the bytes that arrived with the handshake.
func (c *Conn) readConn(b []byte) (int, error) {
	if c.early != nil {
		n, _ := c.early.Read(b)
		if c.early.Len() == 0 {
			c.early = nil
		}
		return n, nil
	}
	n, err := c.IO().Read(b)
	if n > 0 {
		c.Touch()
	}
	return n, err
}
