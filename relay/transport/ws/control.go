package ws

import (
	"encoding/binary"
	"errors"
	"io"
	"time"
	"unicode/utf8"
)

// readControl reads a control frame and does what it asks for. errClosed ends the connection.
func (r *reader) readControl(h header) error {
	var m incoming
	if err := r.readPayload(&m, h); err != nil {
		return err
	}
	return r.c.obey(h.opcode, m.bytes)
}

// obey does what a control frame asks for.
func (c *Conn) obey(opcode byte, payload []byte) error {
	switch opcode {
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

// finish ends the connection after a read error, so that the client can still read why.
func (c *Conn) finish(err error) {
	var wrong violation
	switch {
	case errors.As(err, &wrong):
		c.Close(wrong.code, wrong.reason)
		c.drain()
	case errors.Is(err, errClosed):
		c.io.Lock()
		if c.flushing {
			c.last = true
			c.io.Unlock()
			time.AfterFunc(closeWait, c.Kill)
			return
		}
		c.io.Unlock()
	}
	c.kill(false)
}

// drain stops sending and reads on for a moment: closing a connection with unread data in it
// makes the kernel reset it, and the client would lose the close frame.
func (c *Conn) drain() {
	_ = c.io.NetConn().SetReadDeadline(time.Now().Add(time.Second))
	c.io.Lock()
	c.shut = c.flushing // then the flusher does it, behind the close frame
	idle := !c.flushing
	c.io.Unlock()
	if idle {
		c.io.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(&c.io, 1<<20))
}
