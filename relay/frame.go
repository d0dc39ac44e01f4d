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
