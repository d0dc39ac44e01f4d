package ws

import (
	"errors"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/inflate"
)

const (
	// freeRatio is how many times as long as its payload an inflated message may be at no charge. Every expandedPart
	// bytes beyond count as a part of a frame without a message, of which a client has a number per second. They allow
	// 25 MiB a second, which takes some 2 % of a processor's time. A message costs a half of them at most.
	freeRatio    = 16
	expandedPart = 16 << 10
)

var (
	// errInflate has the code for data that is not consistent with its type (RFC 6455 section 7.4.1).
	errInflate   = violation{codeNotUTF8, "compressed message is invalid"}
	errExpansion = violation{relay.ClosePolicy, "compressed messages expand too much"}
)

// maxPayload is the length of the longest compressed payload of a message with a limit. A compressor can add bytes to a
// message that it cannot compress; the figure is that of zlib with little memory.
func maxPayload(limit int) int { return limit + limit>>3 + 64 }

// inflateMessage replaces the payload of a complete message by the message.
func (r *reader) inflateMessage(m *incoming) error {
	message, err := inflate.Message(m.bytes, r.c.limit())
	switch {
	case errors.Is(err, inflate.ErrTooLong):
		return errTooLong
	case err != nil:
		return errInflate
	case m.text && !utf8.Valid(message):
		return errNotUTF8
	}
	beyond := max(0, len(message)-freeRatio*len(m.bytes))
	parts := (beyond + expandedPart - 1) / expandedPart
	if r.c.tooManyIdle(uint16(min(parts, maxIdle*tinyFragmentPart/2))) {
		return errExpansion
	}
	m.bytes, m.compressed = message, false
	return nil
}
