package plugins

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
)

// Position is the place of an event in the history of its group. Plugins see and pass the token, which clients see too.
// The zero Position belongs to an event that no history keeps.
type Position struct {
	// Micros and Mark identify the history's entry.
	Micros int64
	Mark   uint64
	// Part numbers the events that plugins make of one entry, from 0.
	Part uint16
}

// IsZero reports whether the event has no position.
func (p Position) IsZero() bool { return p == Position{} }

// entry returns the position of the history's entry. The parts of an entry are numbered behind the plugins.
func (p Position) entry() Position { return Position{Micros: p.Micros, Mark: p.Mark} }

// maxToken is the length of the longest token.
const maxToken = 24

var tokenEncoding = base64.RawURLEncoding.Strict()

// Append appends the token of a position: 22 characters, 24 for a part above 0.
func (p Position) Append(dst []byte) []byte {
	var b [18]byte
	binary.BigEndian.PutUint64(b[:], uint64(p.Micros))
	binary.BigEndian.PutUint64(b[8:], p.Mark)
	binary.BigEndian.PutUint16(b[16:], p.Part)
	if p.Part == 0 {
		return tokenEncoding.AppendEncode(dst, b[:16])
	}
	return tokenEncoding.AppendEncode(dst, b[:])
}

// String returns the token of a position, "" for the zero Position.
func (p Position) String() string {
	if p.IsZero() {
		return ""
	}
	return string(p.Append(nil))
}

var errToken = errors.New("not a position; use a token that event_position has returned")

// ParsePosition reads a token. An empty token is the zero Position.
func ParsePosition(token string) (p Position, err error) {
	if token == "" {
		return p, nil
	}
	var b [18]byte
	if len(token) != 22 && len(token) != maxToken {
		return p, errToken
	}
	n, err := tokenEncoding.Decode(b[:], []byte(token))
	if err != nil {
		return p, errToken
	}
	p.Micros, p.Mark = int64(binary.BigEndian.Uint64(b[:])), binary.BigEndian.Uint64(b[8:])
	p.Part = binary.BigEndian.Uint16(b[16:])
	if p.IsZero() || n == len(b) && p.Part == 0 { // no event has it, or it has a shorter token
		return Position{}, errToken
	}
	return p, nil
}
