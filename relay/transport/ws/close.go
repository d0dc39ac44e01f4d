package ws

import (
	"encoding/binary"
	"errors"
)

// CloseMessage implements outgoing.Protocol: a close frame.
func (c *Conn) CloseMessage(code int, reason string) []byte { return closeFrame(code, reason) }

func closeFrame(code int, reason string) []byte {
	frame := append(make([]byte, 0, 4+len(reason)), finBit|opClose, byte(2+len(reason)))
	frame = binary.BigEndian.AppendUint16(frame, uint16(code))
	return append(frame, reason...)
}

// answerClose answers the client's close frame with the same code, unless our close frame is on its way.
func (c *Conn) answerClose(code []byte) {
	c.AnswerClose(append([]byte{finBit | opClose, byte(len(code))}, code...))
}

// end ends the connection after a read error.
func (c *Conn) end(err error) {
	c.closeAfter(err)
	c.IO().Release()
	c.handler.Ended()
}

// closeAfter closes the connection after a read error, so that the client can still read the reason.
func (c *Conn) closeAfter(err error) {
	var wrong violation
	switch {
	case c.stream() != nil: // unread bytes do no harm to the bytes on their way to the client
		if errors.As(err, &wrong) {
			c.Close(wrong.code, wrong.reason)
		}
		c.EndQueued()
	case errors.As(err, &wrong):
		c.Close(wrong.code, wrong.reason)
		c.DiscardInput()
		c.End()
	case errors.Is(err, errClosed):
		c.EndQueued()
	default:
		c.End()
	}
}
