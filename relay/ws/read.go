package ws

import (
	"encoding/binary"
	"errors"
	"io"
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

func (c *Conn) readMessage() (text bool, message []byte, err error) {
	begun, checked := false, 0
	pings, since := 0, int64(0)
	for {
		h, err := c.readHeader()
		if err != nil {
			return false, nil, err
		}
		if h.opcode >= opClose {
			if h.opcode == opPing {
				if now := c.lastRead.Load(); now-since >= int64(time.Second) {
					pings, since = 0, now
				}
				if pings++; pings > maxPings {
					return false, nil, violation{relay.ClosePolicy, "too many pings"}
				}
			}
			if err := c.readControl(h); err != nil {
				return false, nil, err
			}
			continue
		}
		switch {
		case h.opcode > opBinary:
			return false, nil, violation{codeProtocol, "unknown opcode"}
		case begun != (h.opcode == opContinuation):
			return false, nil, violation{codeProtocol, "a fragment out of place"}
		case h.length > uint64(max(0, c.limit()-len(message))):
			return false, nil, violation{codeTooBig, "message too long"}
		}
		if !begun {
			begun, text = true, h.opcode == opText
		}
		if message, checked, err = c.readPayload(message, h, text, checked); err != nil {
			return false, nil, err
		}
		if !h.fin {
			continue
		}
		if text && checked < len(message) {
			return false, nil, errNotUTF8
		}
		if c.isOpen() {
			return text, message, nil
		}
		begun, checked, message = false, 0, nil // we have said goodbye: only the answer to that is of interest
	}
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

// readPayload appends a frame's payload to message. Memory grows as bytes come, not as they are promised. Text is checked as
// it comes, too: up to checked it has been, and the new place is returned.
func (c *Conn) readPayload(message []byte, h header, text bool, checked int) ([]byte, int, error) {
	from := len(message)
	for rest := int(h.length); rest > 0; {
		if len(message) == cap(message) {
			grown := make([]byte, len(message), len(message)+min(rest, max(firstPiece, len(message))))
			copy(grown, message)
			message = grown
		}
		piece := message[len(message):min(cap(message), len(message)+rest)]
		n, err := c.readSome(piece)
		if err != nil {
			return nil, 0, err
		}
		unmask(piece[:n], h.mask, len(message)-from)
		message = message[:len(message)+n]
		rest -= n
		if text {
			whole, ok := wholeRunes(message[checked:])
			if !ok {
				return nil, 0, errNotUTF8
			}
			checked += whole
		}
	}
	return message, checked, nil
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

// readControl reads a control frame and does what it asks for. errClosed ends the connection.
func (c *Conn) readControl(h header) error {
	payload, _, err := c.readPayload(nil, h, false, 0)
	if err != nil {
		return err
	}
	switch h.opcode {
	case opPong:
		return nil
	case opPing:
		c.control(append([]byte{finBit | opPong, byte(len(payload))}, payload...))
		return nil
	case opClose:
		switch {
		case len(payload) == 0:
			c.answerClose(nil)
		case len(payload) == 1, !validCode(int(binary.BigEndian.Uint16(payload))):
			return violation{codeProtocol, "a close code that cannot be"}
		case !utf8.Valid(payload[2:]):
			return violation{codeNotUTF8, "a close reason that is not UTF-8"}
		default:
			c.answerClose(payload[:2])
		}
		return errClosed
	}
	return violation{codeProtocol, "unknown opcode"}
}

// validCode reports whether a close code may be on the wire.
func validCode(code int) bool {
	switch code {
	case 1004, codeNoCode, codeAbnormal, codeTLSFailed:
		return false
	}
	return 1000 <= code && code <= 1014 || 3000 <= code && code <= 4999
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
		c.lastRead.Store(relay.Ticks(time.Now()))
	}
	return n, err
}

// finish ends the connection after a read error, so that the client can still read why.
func (c *Conn) finish(err error) {
	var wrong violation
	switch {
	case errors.As(err, &wrong):
		c.Close(wrong.code, wrong.reason)
		c.drain()
	case errors.Is(err, errClosed):
		c.mu.Lock()
		if c.flushing {
			c.last = true
			c.mu.Unlock()
			time.AfterFunc(closeWait, c.Kill)
			return
		}
		c.mu.Unlock()
	}
	c.Kill()
}

// drain stops sending and reads on for a moment: closing a connection with unread data in it
// makes the kernel reset it, and the client would lose the close frame.
func (c *Conn) drain() {
	_ = c.net.SetReadDeadline(time.Now().Add(time.Second))
	c.mu.Lock()
	c.shut = c.flushing // then the flusher does it, behind the close frame
	idle := !c.flushing
	c.mu.Unlock()
	if idle {
		c.closeWrite()
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(c.net, 1<<20))
}
