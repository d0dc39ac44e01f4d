package ws

import (
	"encoding/binary"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay"
)

// Opcodes of RFC 6455 section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

const (
	finBit       = 0x80
	reservedBits = 0x70
	maskBit      = 0x80
	// maxControl is the longest payload of a control frame.
	maxControl = 125
	// firstPiece is how much memory a message gets before its bytes have come.
	firstPiece = 512
	// maxIdle is how many frames without a message a client may send a second: pings, pongs, and empty fragments that do
	// not end a message. They are six bytes each, and the answer to a ping is a system call. Messages are bounded by the
	// handler.
	maxIdle = 100
	// A fragment of less than tinyFragment bytes counts for a part of such a frame: a flood of them is as good as one of
	// empty fragments, but a message that comes byte by byte is a message.
	tinyFragment     = 8
	tinyFragmentPart = 16
)

// Close codes for what a client can do wrong (RFC 6455 section 7.4.1).
const (
	codeProtocol  = 1002
	codeNotUTF8   = 1007
	codeTooBig    = 1009
	codeNoCode    = 1005 // never on the wire
	codeAbnormal  = 1006 // never on the wire
	codeTLSFailed = 1015 // never on the wire
)

// violation is what a client did wrong.
type violation struct {
	code   int
	reason string
}

func (v violation) Error() string { return v.reason }

// errNotUTF8 ends a text that cannot become UTF-8 any more.
var errNotUTF8 = violation{codeNotUTF8, "text that is not UTF-8"}

// errClosed means that the client has ended the connection in order.
var errClosed = errors.New("closed by the client")

// header is the head of a frame.
type header struct {
	opcode byte
	fin    bool
	length uint64
	mask   [4]byte
}

// reader is what a connection needs while bytes come, and not at rest.
type reader struct {
	c          *Conn
	in         []byte // what has been read and not been used is in[start:end]
	start, end int
	incoming
	lasting bool // its goroutine waits for the client's bytes, and is to keep a small stack
}

// incoming is a message that is being read.
type incoming struct {
	bytes   []byte
	checked int // how much of bytes is known to be UTF-8
	begun   bool
	text    bool
}

// between reports whether the client is between two messages, as far as bytes have come.
func (r *reader) between() bool { return !r.begun && r.start == r.end && r.c.early == nil }

// read reads a frame, and hands on the message that ends with it. An error ends the connection.
func (r *reader) read() error {
	h, err := r.readHeader()
	if err == nil {
		err = r.readFrame(h)
	}
	if err != nil || h.opcode >= opClose || !h.fin {
		return err
	}
	m := r.incoming
	r.incoming = incoming{}
	if r.c.isOpen() { // else we have said goodbye, and only the answer to that is of interest
		r.deliver(m)
		if r.end > r.start {
			r.c.lives() // more has come long ago; its time is not what the handler took for this one
		}
	}
	return nil
}

// readFrame reads what follows a frame's head. Where it is the last of a message, r.incoming is that message.
func (r *reader) readFrame(h header) error {
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
		return violation{codeProtocol, "a fragment out of place"}
	case h.length > uint64(max(0, r.c.limit()-len(m.bytes))):
		return violation{codeTooBig, "message too long"}
	}
	if !m.begun {
		m.begun, m.text = true, h.opcode == opText
	}
	if err := r.readPayload(m, h); err != nil {
		return err
	}
	if h.fin && m.text && m.checked < len(m.bytes) {
		return errNotUTF8
	}
	return nil
}

// tooManyIdle counts a frame that carries next to nothing, in parts of a frame without a message.
func (c *Conn) tooManyIdle(parts uint16) bool {
	if now := c.lastRead.Load(); now-c.idleSince >= int64(time.Second) {
		c.idle, c.idleSince = 0, now
	}
	c.idle = min(c.idle, maxIdle*tinyFragmentPart) + parts // does not wrap around
	return c.idle > maxIdle*tinyFragmentPart
}

// readHeader reads and checks the head of a frame.
func (r *reader) readHeader() (h header, err error) {
	b, err := r.take(2)
	if err != nil {
		return h, err
	}
	h.fin, h.opcode = b[0]&finBit != 0, b[0]&0x0f
	if b[0]&reservedBits != 0 {
		return h, violation{codeProtocol, "reserved bits"}
	}
	if b[1]&maskBit == 0 {
		return h, violation{codeProtocol, "a frame without a mask"}
	}
	switch h.length = uint64(b[1] &^ maskBit); h.length {
	case 126:
		if b, err = r.take(2); err != nil {
			return h, err
		}
		h.length = uint64(binary.BigEndian.Uint16(b))
	case 127:
		if b, err = r.take(8); err != nil {
			return h, err
		}
		if h.length = binary.BigEndian.Uint64(b); h.length > 1<<63-1 {
			return h, violation{codeProtocol, "a length below zero"}
		}
	}
	if h.opcode >= opClose && (h.length > maxControl || !h.fin) {
		return h, violation{codeProtocol, "a control frame too long or in fragments"}
	}
	if b, err = r.take(4); err != nil {
		return h, err
	}
	copy(h.mask[:], b)
	return h, nil
}

// readPayload appends a frame's payload to m. Memory grows as bytes come, not as they are promised.
func (r *reader) readPayload(m *incoming, h header) error {
	from := len(m.bytes)
	for end := from + int(h.length); len(m.bytes) < end; {
		n, err := r.readSome(m.room(end))
		if err != nil {
			return err
		}
		if !m.took(n, from, h.mask) {
			return errNotUTF8
		}
	}
	return nil
}

// room is where the next bytes up to end go.
func (m *incoming) room(end int) []byte {
	n := len(m.bytes)
	if n == cap(m.bytes) {
		grown := make([]byte, n, n+min(end-n, max(firstPiece, n)))
		copy(grown, m.bytes)
		m.bytes = grown
	}
	return m.bytes[n:min(cap(m.bytes), end)]
}

// took makes n bytes of room part of the message, whose frame's payload stands at from. Text is checked as it comes: it is
// not ok once it cannot become UTF-8 any more.
func (m *incoming) took(n, from int, mask [4]byte) (ok bool) {
	at := len(m.bytes)
	m.bytes = m.bytes[:at+n]
	unmask(m.bytes[at:], mask, at-from)
	if !m.text {
		return true
	}
	whole, ok := wholeRunes(m.bytes[m.checked:])
	m.checked += whole
	return ok
}

// unmask takes the mask off what stands at a place in its frame's payload.
func unmask(b []byte, mask [4]byte, at int) {
	for i := range b {
		b[i] ^= mask[(at+i)&3]
	}
}

// wholeRunes returns how much of b is whole characters. What follows may be the beginning of one; it is
// not ok if it cannot be.
func wholeRunes(b []byte) (n int, ok bool) {
	if utf8.Valid(b) {
		return len(b), true
	}
	n = len(b) - 1
	for n > 0 && n > len(b)-utf8.UTFMax && !utf8.RuneStart(b[n]) {
		n--
	}
	return n, utf8.Valid(b[:n]) && !utf8.FullRune(b[n:])
}

// take returns the next n bytes, which are good until the next read; n is at most len(r.in).
func (r *reader) take(n int) ([]byte, error) {
	for r.end-r.start < n {
		if r.start > 0 {
			r.end = copy(r.in, r.in[r.start:r.end])
			r.start = 0
		}
		m, err := r.c.readNet(r.in[r.end:])
		r.end += m
		if err != nil && r.end-r.start < n {
			return nil, err
		}
	}
	b := r.in[r.start : r.start+n]
	r.start += n
	return b, nil
}

// readSome reads into b what there is, at least one byte.
func (r *reader) readSome(b []byte) (int, error) {
	if r.end > r.start {
		n := copy(b, r.in[r.start:r.end])
		r.start += n
		return n, nil
	}
	for {
		n, err := r.c.readNet(b)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// readNet reads from the connection, after what came with the handshake, and notes that the client is alive.
func (c *Conn) readNet(b []byte) (int, error) {
	if c.early != nil {
		n, _ := c.early.Read(b)
		if c.early.Len() == 0 {
			c.early = nil
		}
		return n, nil
	}
	n, err := c.io.Read(b)
	if n > 0 {
		c.lives()
	}
	return n, err
}

// lives notes that the client does.
func (c *Conn) lives() { c.lastRead.Store(relay.Ticks(time.Now())) }
