package redisnet

import "errors"

// Bounds on the announced size of one value in a reply to a pooled client.
const (
	maxClaimedBytes    = 64 << 20
	maxClaimedElements = 1 << 20
	// maxNested is the maximum depth of a reply.
	maxNested = 8
)

// errClaim ends a connection whose host announces more.
var errClaim = errors.New(
	"redis announces a reply larger than any that was asked for; check that a Redis listens at this address")

// claims follows a stream of RESP values far enough to find lengths and depths. The pooled client allocates the
// announced size of a reply before the bytes arrive, and recurses into nested values without a bound.
type claims struct {
	kind   byte  // of the current header line; 0 at its beginning
	length int64 // in the header line, as far as it was read
	skip   int64 // remaining bytes of a bulk string and its line end
	bad    bool

	open     [maxNested]int64 // remaining elements of the unfinished values, the outermost first
	depth    int
	elements int64 // announced by the outermost value and all values in it
}

// sound reads on and reports whether all lengths in the stream are within bounds.
func (c *claims) sound(b []byte) bool {
	for len(b) > 0 && !c.bad {
		if c.skip > 0 {
			n := min(c.skip, int64(len(b)))
			b, c.skip = b[n:], c.skip-n
			continue
		}
		char := b[0]
		b = b[1:]
		switch {
		case char == '\n':
			c.header()
			c.kind, c.length = 0, 0
		case c.kind == 0:
			c.kind = char
			c.bad = char == '|' // an attribute, which no command asks for
		case char == '-':
			c.length = -1 << 40 // a null; its digits must not make it positive
		case char == '?' && c.counts():
			c.bad = true // a streamed length, which Redis does not send
		case '0' <= char && char <= '9':
			c.length = 10*c.length + int64(char-'0')
			switch {
			case c.kind == '$', c.kind == '!', c.kind == '=':
				c.bad = c.length > maxClaimedBytes
			case c.counts():
				c.bad = c.length > maxClaimedElements
			default:
				c.length = 0 // the text of a simple value
			}
			c.length = max(c.length, -1<<40)
		}
	}
	return !c.bad
}

// counts reports whether the current value has elements.
func (c *claims) counts() bool {
	return c.kind == '*' || c.kind == '%' || c.kind == '~' || c.kind == '>'
}

// header takes a complete header line.
func (c *claims) header() {
	switch {
	case c.counts() && c.length > 0:
		if c.kind == '%' {
			c.length *= 2
		}
		if c.elements += c.length; c.depth == maxNested || c.elements > 2*maxClaimedElements {
			c.bad = true
			return
		}
		c.open[c.depth] = c.length
		c.depth++
		return
	case (c.kind == '$' || c.kind == '!' || c.kind == '=') && c.length >= 0:
		c.skip = c.length + 2
	}
	for c.depth > 0 { // A value is complete, and so are the values whose last element it is.
		if c.open[c.depth-1]--; c.open[c.depth-1] > 0 {
			return
		}
		c.depth--
	}
	c.elements = 0
}
