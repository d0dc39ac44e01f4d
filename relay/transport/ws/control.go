package ws

import (
	"encoding/binary"
	"time"
	"unicode/utf8"
)

const (
	// maxIdle is how many frames without a message a client may send per second: pings, pongs, and empty fragments that
	// do not end a message. Each is six bytes long, and the answer to a ping is a system call. The handler limits
	// messages.
	maxIdle = 100
	// A fragment of less than tinyFragment bytes counts for a part of such a frame. A flood of tiny fragments costs as
	// much as a flood of empty fragments, but a client may send a message byte by byte.
	tinyFragment     = 8
	tinyFragmentPart = 16
)

// Ping implements [relay.Socket].
func (c *Conn) Ping() (sent bool) { return c.SendControl([]byte{finBit | opPing, 0}, true) }

// readControl reads and handles a control frame. errClosed ends the connection.
func (r *reader) readControl(h header) error {
	var m incoming
	if err := r.readPayload(&m, h); err != nil {
		return err
	}
	return r.c.handleControl(h.opcode, m.bytes)
}

func (c *Conn) handleControl(opcode byte, payload []byte) error {
	switch opcode {
	case opPong:
		return nil
	case opPing:
		c.SendControl(append([]byte{finBit | opPong, byte(len(payload))}, payload...), false)
		return nil
	case opClose:
		switch {
		case len(payload) == 0:
			c.reportClose(0, "")
			c.answerClose(nil)
		case len(payload) == 1, !validCode(int(binary.BigEndian.Uint16(payload))):
			return violation{codeProtocol, "invalid close code"}
		case !utf8.Valid(payload[2:]):
			return violation{codeNotUTF8, "close reason is not UTF-8"}
		default:
			c.reportClose(int(binary.BigEndian.Uint16(payload)), string(payload[2:]))
			c.answerClose(payload[:2])
		}
		return errClosed
	}
	return violation{codeProtocol, "unknown opcode"}
}

func (c *Conn) reportClose(code int, reason string) {
	if h, ok := c.handler.(CloseHandler); ok {
		h.Closed(code, reason)
	}
}

// validCode reports whether a close frame may carry a code.
func validCode(code int) bool {
	switch code {
	case 1004, codeNoCode, codeAbnormal, codeTLSFailed:
		return false
	}
	return 1000 <= code && code <= 1014 || 3000 <= code && code <= 4999
}

// tooManyIdle counts a frame that carries next to nothing, in parts of a frame without a message.
func (c *Conn) tooManyIdle(parts uint16) bool {
	if now := uint32(c.ReadAt() / int64(time.Millisecond)); now-c.idleSince >= 1000 { // wraps around
		c.idle, c.idleSince = 0, now
	}
	c.idle = min(c.idle, maxIdle*tinyFragmentPart) + parts // does not wrap around
	return c.idle > maxIdle*tinyFragmentPart
}
