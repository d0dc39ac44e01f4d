package ws

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"
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
	// compressed is RSV1 of the first frame of a message that is compressed (RFC 7692 section 6).
	compressed = 0x40
	maskBit    = 0x80
	// maxControl is the longest payload of a control frame.
	maxControl = 125
)

// Close codes for a client's violations, and codes that are never sent (RFC 6455 section 7.4.1).
const (
	codeProtocol  = 1002
	codeNotUTF8   = 1007
	codeTooBig    = 1009
	codeNoCode    = 1005 // never sent
	codeAbnormal  = 1006 // never sent
	codeTLSFailed = 1015 // never sent
)

// violation is a client's breach of the protocol or of a limit. The close frame carries code and reason.
type violation struct {
	code   int
	reason string
}

func (v violation) Error() string { return v.reason }

// errTooLong ends a message that is longer than the limit.
var errTooLong = violation{codeTooBig, "message is too long"}

// errNotUTF8 ends a text message that cannot become valid UTF-8.
var errNotUTF8 = violation{codeNotUTF8, "text is not UTF-8"}

// errClosed means that the client has closed the connection with a close frame.
var errClosed = errors.New("closed by the client")

// header is the head of a frame.
type header struct {
	opcode byte
	fin    bool
	// compressed is set on the first frame of a compressed message only.
	compressed bool
	length     uint64
	mask       [4]byte
}

// begins reports whether the frame is the first of a message.
func (h *header) begins() bool { return h.opcode == opText || h.opcode == opBinary }

// readHeader reads and checks the head of a frame.
func (r *reader) readHeader() (h header, err error) {
	b, err := r.readExactly(2)
	if err != nil {
		return h, err
	}
	h.fin, h.opcode = b[0]&finBit != 0, b[0]&0x0f
	if reserved := b[0] & reservedBits; reserved != 0 {
		if h.compressed = reserved == compressed && r.c.deflates && h.begins(); !h.compressed {
			return h, violation{codeProtocol, "reserved bits are set"}
		}
	}
	if b[1]&maskBit == 0 {
		return h, violation{codeProtocol, "frame is not masked"}
	}
	switch h.length = uint64(b[1] &^ maskBit); h.length {
	case 126:
		if b, err = r.readExactly(2); err != nil {
			return h, err
		}
		h.length = uint64(binary.BigEndian.Uint16(b))
	case 127:
		if b, err = r.readExactly(8); err != nil {
			return h, err
		}
		if h.length = binary.BigEndian.Uint64(b); h.length > 1<<63-1 {
			return h, violation{codeProtocol, "length is negative"}
		}
	}
	if h.opcode >= opClose && (h.length > maxControl || !h.fin) {
		return h, violation{codeProtocol, "control frame is too long or fragmented"}
	}
	if b, err = r.readExactly(4); err != nil {
		return h, err
	}
	copy(h.mask[:], b)
	return h, nil
}

// unmask removes the mask from b, which begins at an offset of the frame's payload.
func unmask(b []byte, mask [4]byte, offset int) {
	for i := range b {
		b[i] ^= mask[(offset+i)&3]
	}
}

// wholeRunes returns how many bytes of b are complete characters. ok is false if the bytes after them cannot begin
// another character.
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
