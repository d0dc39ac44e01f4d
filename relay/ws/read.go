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
	// maxPings is how many pings a client may send a second: a ping is six bytes, and its answer a system call.
	maxPings = 100
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

// Read returns the next message, and whether it is text, until the connection ends. It answers pings. A
// client that breaks the websocket protocol is closed with the code that says so.
func (c *Conn) Read() (text bool, message []byte, err error) {
	text, message, err = c.readMessage()
	if err != nil {
		c.finish(err)
	}
	return text, message, err
}

// incoming is a message that is being read. A client at rest waits under readMessage, on a stack that is to stay at the
// 2 KiB it began with: so what the calls share is here once, and what only some messages need is in calls of its own.
type incoming struct {
	bytes   []byte
	checked int // how much of bytes is known to be UTF-8
	begun   bool
	text    bool
	pings   uint8 // since then
	since   int64 // Ticks
}

func (c *Conn) readMessage() (text bool, message []byte, err error) {
	var m incoming
	for {
		h, err := c.readHeader()
		if err == nil {
			err = c.readFrame(&m, h)
		}
		switch {
		case err != nil:
			return false, nil, err
		case h.opcode >= opClose || !h.fin:
		case c.isOpen():
			return m.text, m.bytes, nil
		default:
			m = incoming{} // we have said goodbye: only the answer to that is of interest
		}
	}
}

// readFrame reads what follows a frame's head. Where it is the last of a message, m is that message.
func (c *Conn) readFrame(m *incoming, h header) error {
	if h.opcode >= opClose {
		if h.opcode == opPing && m.tooManyPings(c.lastRead.Load()) {
			return violation{relay.ClosePolicy, "too many pings"}
		}
		return c.readControl(h)
	}
	switch {
	case h.opcode > opBinary:
		return violation{codeProtocol, "unknown opcode"}
	case m.begun != (h.opcode == opContinuation):
		return violation{codeProtocol, "a fragment out of place"}
	case h.length > uint64(max(0, c.limit()-len(m.bytes))):
		return violation{codeTooBig, "message too long"}
	}
	if !m.begun {
		m.begun, m.text = true, h.opcode == opText
	}
	if err := c.readPayload(m, h); err != nil {
		return err
	}
	if h.fin && m.text && m.checked < len(m.bytes) {
		return errNotUTF8
	}
	return nil
}

// tooManyPings counts a ping.
func (m *incoming) tooManyPings(now int64) bool {
	if now-m.since >= int64(time.Second) {
		m.pings, m.since = 0, now
	}
	m.pings++
	return m.pings > maxPings
}

// readHeader reads and checks the head of a frame.
func (c *Conn) readHeader() (h header, err error) {
	b, err := c.take(2)
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
		if b, err = c.take(2); err != nil {
			return h, err
		}
		h.length = uint64(binary.BigEndian.Uint16(b))
	case 127:
		if b, err = c.take(8); err != nil {
			return h, err
		}
		if h.length = binary.BigEndian.Uint64(b); h.length > 1<<63-1 {
			return h, violation{codeProtocol, "a length below zero"}
		}
	}
	if h.opcode >= opClose && (h.length > maxControl || !h.fin) {
		return h, violation{codeProtocol, "a control frame too long or in fragments"}
	}
	if b, err = c.take(4); err != nil {
		return h, err
	}
	copy(h.mask[:], b)
	return h, nil
}

// readPayload appends a frame's payload to m. Memory grows as bytes come, not as they are promised.
func (c *Conn) readPayload(m *incoming, h header) error {
	from := len(m.bytes)
	for end := from + int(h.length); len(m.bytes) < end; {
		n, err := c.readSome(m.room(end))
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
//
//go:noinline
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
//
//go:noinline
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

// take returns the next n bytes, which are good until the next read; n is at most len(c.in).
func (c *Conn) take(n int) ([]byte, error) {
	for int(c.end-c.start) < n {
		if c.start > 0 {
			c.end = uint8(copy(c.in[:], c.in[c.start:c.end]))
			c.start = 0
		}
		m, err := c.readNet(c.in[c.end:])
		c.end += uint8(m)
		if err != nil && int(c.end-c.start) < n {
			return nil, err
		}
	}
	b := c.in[c.start : int(c.start)+n]
	c.start += uint8(n)
	return b, nil
}

// readSome reads into b what there is, at least one byte.
func (c *Conn) readSome(b []byte) (int, error) {
	if c.end > c.start {
		n := copy(b, c.in[c.start:c.end])
		c.start += uint8(n)
		return n, nil
	}
	for {
		n, err := c.readNet(b)
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
	if len(c.early) > 0 {
		n := copy(b, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	n, err := c.net.Read(b)
	if n > 0 {
		c.lives()
	}
	return n, err
}

// lives notes that the client does.
//
//go:noinline
func (c *Conn) lives() { c.lastRead.Store(relay.Ticks(time.Now())) }
