package ws

import (
	"encoding/binary"
	"time"
	"unicode/utf8"
)

const (
	// maxControlQueue is the queue in bytes above which another control frame closes the connection.
	maxControlQueue = 1 << 20
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
func (c *Conn) Ping() (sent bool) { return c.sendControl([]byte{finBit | opPing, 0}) }

// sendControl writes or queues a control frame. A ping is not queued: a client with queued bytes is alive while the
// queue shrinks.
func (c *Conn) sendControl(frame []byte) (sent bool) {
	c.io.Lock()
	defer c.io.Unlock()
	if c.state != open {
		return false
	}
	if !c.flushing {
		if frame = c.tryWrite(frame, false); len(frame) == 0 {
			return true
		}
	}
	switch queued := c.queuedBytes(); {
	case queued > 0 && frame[0] == finBit|opPing:
		return false
	case queued > maxControlQueue: // a flood of pings from a client that does not read the answers
		c.closeSlow()
		return false
	}
	c.enqueue(frame)
	return true
}

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
		c.sendControl(append([]byte{finBit | opPong, byte(len(payload))}, payload...))
		return nil
	case opClose:
		switch {
		case len(payload) == 0:
			c.answerClose(nil)
		case len(payload) == 1, !validCode(int(binary.BigEndian.Uint16(payload))):
			return violation{codeProtocol, "invalid close code"}
		case !utf8.Valid(payload[2:]):
			return violation{codeNotUTF8, "close reason is not UTF-8"}
		default:
			c.answerClose(payload[:2])
		}
		return errClosed
	}
	return violation{codeProtocol, "unknown opcode"}
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
	if now := c.lastRead.Load(); now-c.idleSince >= int64(time.Second) {
		c.idle, c.idleSince = 0, now
	}
	c.idle = min(c.idle, maxIdle*tinyFragmentPart) + parts // does not wrap around
	return c.idle > maxIdle*tinyFragmentPart
}
