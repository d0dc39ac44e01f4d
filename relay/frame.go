package relay

import "encoding/binary"

// FrameSize returns the length of the frame that [AppendFrame] makes of n payload bytes.
func FrameSize(n int) int {
	switch {
	case n < 126:
		return 2 + n
	case n <= 0xffff:
		return 4 + n
	}
	return 10 + n
}

// AppendFrame appends text as one unmasked, final websocket text frame (RFC 6455 section 5.2).
func AppendFrame(dst, text []byte) []byte {
	const finText = 0x81
	switch n := len(text); {
	case n < 126:
		dst = append(dst, finText, byte(n))
	case n <= 0xffff:
		dst = append(dst, finText, 126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	default:
		dst = append(dst, finText, 127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	return append(dst, text...)
}

// CutFrame splits the first frame of a buffer of whole frames off, which the relay has encoded itself. A malformed
// buffer has neither a payload nor a rest.
func CutFrame(frames []byte) (payload []byte, kind Frame, rest []byte) {
	const opcodeMask, opcodeText = 0x0f, 1
	if len(frames) < 2 {
		return nil, NoFrame, nil
	}
	kind = BinaryFrame
	if frames[0]&opcodeMask == opcodeText {
		kind = TextFrame
	}
	head, n := 2, uint64(frames[1]&0x7f)
	switch {
	case n == 126 && len(frames) >= 4:
		head, n = 4, uint64(binary.BigEndian.Uint16(frames[2:]))
	case n == 127 && len(frames) >= 10:
		head, n = 10, binary.BigEndian.Uint64(frames[2:])
	}
	if n > uint64(len(frames)-head) {
		return nil, NoFrame, nil
	}
	end := head + int(n)
	return frames[head:end:end], kind, frames[end:]
}
