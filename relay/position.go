package relay

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
)

// Position identifies an event within its group, and is the place from which a client resumes. All nodes that share a
// history give an event the same position. The zero Position belongs to an event that no history keeps.
type Position struct {
	// Micros is the time of the event in Unix microseconds, by the clock that the history orders the group by: the
	// emitter's for channels_redis, this node's for a ring.
	Micros int64
	// Mark tells events of the same time apart, and histories from each other. It reveals nothing about the text.
	Mark uint64
	// Part numbers the texts that plugins made of one event for one group, from 0.
	Part uint16
}

// HistorySlack is the difference between emitters' clocks, in time, up to which a replay misses no event: a replay
// begins this much before the client's position, and clients ignore positions that they have.
const HistorySlack = 2_000_000 // microseconds

// IsZero reports whether the event has no position.
func (p Position) IsZero() bool { return p == Position{} }

// Entry returns the position of the history's entry from which the text was made.
func (p Position) Entry() Position { return Position{Micros: p.Micros, Mark: p.Mark} }

// Compare orders positions as a history orders events.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Micros, q.Micros), cmp.Compare(p.Mark, q.Mark), cmp.Compare(p.Part, q.Part))
}

// positionEncoding is the alphabet of tokens, which need no escaping in JSON, URLs and headers.
var positionEncoding = base64.RawURLEncoding.Strict()

// Append appends the token of a position: 22 characters, 24 for a part above 0.
func (p Position) Append(dst []byte) []byte {
	var b [18]byte
	binary.BigEndian.PutUint64(b[:], uint64(p.Micros))
	binary.BigEndian.PutUint64(b[8:], p.Mark)
	binary.BigEndian.PutUint16(b[16:], p.Part)
	if p.Part == 0 {
		return positionEncoding.AppendEncode(dst, b[:16])
	}
	return positionEncoding.AppendEncode(dst, b[:])
}

// String returns the token of a position.
func (p Position) String() string { return string(p.Append(nil)) }

// ErrPosition is the error for a text that is not a token of a position.
var ErrPosition = errors.New("not a position; send one that the relay has sent")

// ParsePosition reads a token.
func ParsePosition(token string) (p Position, err error) {
	if len(token) != 22 && len(token) != 24 {
		return p, ErrPosition
	}
	b, err := positionEncoding.DecodeString(token)
	if err != nil || len(b) != len(token)*3/4 { // the decoder skips CR and LF
		return p, ErrPosition
	}
	p.Micros, p.Mark = int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint64(b[8:])
	if len(b) == 18 {
		if p.Part = binary.BigEndian.Uint16(b[16:]); p.Part == 0 { // has a shorter token
			return Position{}, ErrPosition
		}
	}
	if p.IsZero() {
		return p, ErrPosition
	}
	return p, nil
}
