package webhttp

import "encoding/binary"

// kind is the kind of a frame to a client.
type kind uint8

const (
	kindText kind = iota
	kindBinary
	kindPing
	kindPong
)

// maxControl is the greatest length of a control frame's payload in bytes (RFC 6455 section 5.5).
const maxControl = 125

// opcodes are the first bytes of final frames (RFC 6455 section 5.2).
var opcodes = [...]byte{kindText: 0x81, kindBinary: 0x82, kindPing: 0x89, kindPong: 0x8a}

// kindNamed returns the kind with a name of GRIP.
func kindNamed(name string) (k kind, ok bool) {
	switch name {
	case "text":
		return kindText, true
	case "binary":
		return kindBinary, true
	case "ping":
		return kindPing, true
	case "pong":
		return kindPong, true
	}
	return 0, false
}

// isData reports whether the frame carries a message.
func (k kind) isData() bool { return k <= kindBinary }

// appendFrame appends a payload as one unmasked, final frame. A control frame's payload is maxControl bytes at most.
func appendFrame(dst []byte, k kind, payload []byte) []byte {
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, opcodes[k], byte(n))
	case n <= 0xffff:
		dst = binary.BigEndian.AppendUint16(append(dst, opcodes[k], 126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, opcodes[k], 127), uint64(n))
	}
	return append(dst, payload...)
}
