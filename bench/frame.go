//go:build linux

package main

import (
	"encoding/binary"
	"errors"
)

// The opcodes of RFC 6455, section 5.2, that a server may send to a client.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// maxFrame is the largest accepted frame length; no measured event comes near it.
const maxFrame = 1 << 24

var (
	errMasked     = errors.New("server frame is masked (RFC 6455, 5.1 forbids it)")
	errFragmented = errors.New("server frame is fragmented; every event here fits one frame")
	errHuge       = errors.New("server frame is longer than 16 MiB")
)

// frame is one unmasked server frame; payload points into the parsed buffer.
type frame struct {
	op         byte
	compressed bool // RSV1 (RFC 7692)
	payload    []byte
}

// parseFrame reads the first server frame in b and returns its total length. A length of 0 without an error means
// that b ends inside the frame.
func parseFrame(b []byte) (f frame, length int, err error) {
	if len(b) < 2 {
		return f, 0, nil
	}
	if b[1]&0x80 != 0 {
		return f, 0, errMasked
	}
	f.op, f.compressed = b[0]&0x0f, b[0]&0x40 != 0
	if b[0]&0x80 == 0 || f.op == 0 {
		return f, 0, errFragmented
	}
	head, n := 2, int(b[1])
	switch n {
	case 126:
		if len(b) < 4 {
			return f, 0, nil
		}
		head, n = 4, int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if len(b) < 10 {
			return f, 0, nil
		}
		long := binary.BigEndian.Uint64(b[2:])
		if long > maxFrame {
			return f, 0, errHuge
		}
		head, n = 10, int(long)
	}
	if len(b) < head+n {
		return f, 0, nil
	}
	f.payload = b[head : head+n]
	return f, head + n, nil
}

// appendServerFrame appends payload as one unmasked frame.
func appendServerFrame(b []byte, op byte, payload []byte) []byte {
	b = append(b, 0x80|op)
	b = appendLength(b, 0, len(payload))
	return append(b, payload...)
}

// appendClientFrame appends payload as one masked frame, as a client must.
func appendClientFrame(b []byte, op byte, payload []byte) []byte {
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b = append(b, 0x80|op)
	b = appendLength(b, 0x80, len(payload))
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i&3])
	}
	return b
}

func appendLength(b []byte, maskBit byte, n int) []byte {
	switch {
	case n < 126:
		return append(b, maskBit|byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, maskBit|126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, maskBit|127), uint64(n))
	}
}
