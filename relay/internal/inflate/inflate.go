// Package inflate decodes the compressed messages of WebSocket clients, in the format DEFLATE (RFC 1951), within a
// limit.
//
// [Message] has the whole payload at hand, and the message is its own window. So a decoder is some hundred bytes on the
// stack, and every byte of a payload costs about the same, whatever it contains.
// See docs/decisions/transport.md#why-does-the-relay-have-a-decoder-of-its-own
package inflate

import (
	"encoding/binary"
	"errors"
)

var (
	// ErrInvalid means that a payload is not valid.
	ErrInvalid = errors.New("inflating: payload is invalid")
	// ErrTooLong means that a message is longer than the limit.
	ErrTooLong = errors.New("inflating: message is too long")
)

// tail follows every payload: the end of an empty block, which the sender has removed (RFC 7692 section 7.2.2).
const tail = "\x00\x00\xff\xff"

// firstPiece is the least memory of a message.
const firstPiece = 512

// decoder is the state of a message that is being decoded.
type decoder struct {
	payload []byte
	next    int    // of payload and tail, the byte after those in bits
	bits    uint64 // count bits that are not used yet, the next one lowest, and below 8 bytes perhaps others after them
	count   uint
	out     []byte
	limit   int

	literals, distances code // of the current block
}

// Message returns the message of a payload without context takeover. A message of more than limit bytes is
// [ErrTooLong]; the other error is [ErrInvalid]. An empty payload, which RFC 7692 does not define, is an empty message,
// and a payload may end with any block.
func Message(payload []byte, limit int) ([]byte, error) {
	d := decoder{payload: payload, limit: limit}
	for d.position() < 8*len(payload) {
		if err := d.block(); err != nil {
			return nil, err
		}
	}
	if end := d.position() - 8*len(payload); end != 0 && end != 8*len(tail) {
		return nil, ErrInvalid // the last block is not complete
	}
	return d.out, nil
}

// position is the number of bits that are used.
func (d *decoder) position() int { return 8*d.next - int(d.count) }

// block decodes a block. A final block ends with its last byte, and another block may follow (RFC 7692 section 7.2.1).
func (d *decoder) block() error {
	head, err := d.take(3)
	if err != nil {
		return err
	}
	switch head >> 1 {
	case 0:
		err = d.copyStored()
	case 1:
		err = d.decode(&fixedLiterals, &fixedDistances)
	case 2:
		if err = d.readCodes(); err == nil {
			err = d.decode(&d.literals, &d.distances)
		}
	default:
		err = ErrInvalid
	}
	if head&1 == 1 {
		d.alignToByte()
	}
	return err
}

// fill reads ahead: afterwards, there are at least 56 bits, or all that are left.
func (d *decoder) fill() {
	if d.next+8 <= len(d.payload) {
		d.bits |= binary.LittleEndian.Uint64(d.payload[d.next:]) << d.count
		whole := (63 - d.count) / 8
		d.next += int(whole)
		d.count += 8 * whole
		return
	}
	for ; d.count <= 56 && d.next < len(d.payload)+len(tail); d.count += 8 {
		b := byte(0)
		if d.next < len(d.payload) {
			b = d.payload[d.next]
		} else {
			b = tail[d.next-len(d.payload)]
		}
		d.bits |= uint64(b) << d.count
		d.next++
	}
}

// take returns the next n bits, at most 16, the first one lowest.
func (d *decoder) take(n uint) (int, error) {
	if d.count < n {
		if d.fill(); d.count < n {
			return 0, ErrInvalid
		}
	}
	v := d.bits & (1<<n - 1)
	d.skip(n)
	return int(v), nil
}

func (d *decoder) skip(n uint) {
	d.bits >>= n
	d.count -= n
}

// alignToByte skips the rest of a byte, and puts whole bytes back.
func (d *decoder) alignToByte() {
	d.next -= int(d.count / 8)
	d.bits, d.count = 0, 0
}

// copyStored decodes a block without compression (RFC 1951 section 3.2.4).
func (d *decoder) copyStored() error {
	d.alignToByte()
	n, err := d.take(16)
	if err != nil {
		return err
	}
	inverse, err := d.take(16)
	if err != nil || n != ^inverse&0xffff {
		return ErrInvalid
	}
	d.alignToByte()
	end := d.next + n
	switch {
	case end > len(d.payload)+len(tail):
		return ErrInvalid
	case !d.reserve(n):
		return ErrTooLong
	}
	if whole := min(end, len(d.payload)); d.next < whole {
		d.out = append(d.out, d.payload[d.next:whole]...)
		d.next = whole
	}
	for ; d.next < end; d.next++ {
		d.out = append(d.out, tail[d.next-len(d.payload)])
	}
	return nil
}

// reserve makes room for n bytes, and reports whether the limit allows them.
func (d *decoder) reserve(n int) bool {
	need := len(d.out) + n
	if need > d.limit {
		return false
	}
	if need > cap(d.out) {
		grown := make([]byte, len(d.out), min(d.limit, max(need, 2*cap(d.out), 2*len(d.payload), firstPiece)))
		copy(grown, d.out)
		d.out = grown
	}
	return true
}
