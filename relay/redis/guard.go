package redis

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// Bounds on what one value may claim to hold where a pooled client reads it.
const (
	maxClaimedBytes    = 64 << 20
	maxClaimedElements = 1 << 20
)

// errClaim ends a connection whose host claims more than that.
var errClaim = errors.New("redis announces a reply larger than any that it has been asked for: is something else listening at this address?")

// guard watches what comes on a connection of the pooled client. That one makes room for all that a reply claims to hold before any of it
// has come, and a length that memory cannot hold ends the process.
type guard struct {
	net.Conn
	claims claims
}

// guarded makes the connections that dial makes guarded ones.
func guarded(dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if raw, ok := c.(syscall.Conn); ok {
			return &rawGuard{guard{Conn: c}, raw}, nil
		}
		return &guard{Conn: c}, nil
	}
}

// rawGuard shows the pool the socket, too, which it looks at to find out whether a connection has ended while nobody used it.
type rawGuard struct {
	guard
	syscall.Conn
}

// Read implements [net.Conn].
func (g *guard) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	if !g.claims.sound(b[:n]) {
		return 0, errClaim
	}
	return n, err
}

// claims follows a stream of RESP values as far as to know where lengths stand.
type claims struct {
	kind   byte  // of the header line that is being read; 0 at its beginning
	length int64 // what it says so far
	skip   int64 // how much of a bulk string, with its line end, is still to come
	bad    bool
}

// sound reads on and reports whether no length in the stream is out of bounds.
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
			if c.kind == '$' || c.kind == '!' || c.kind == '=' {
				if c.length >= 0 {
					c.skip = c.length + 2
				}
			}
			c.kind, c.length = 0, 0
		case c.kind == 0:
			c.kind = char
		case char == '-':
			c.length = -1 << 40 // a null; digits do not make it positive
		case '0' <= char && char <= '9':
			c.length = 10*c.length + int64(char-'0')
			switch c.kind {
			case '$', '!', '=':
				c.bad = c.length > maxClaimedBytes
			case '*', '%', '~', '>', '|':
				c.bad = c.length > maxClaimedElements
			default:
				c.length = 0 // the text of a simple value
			}
			c.length = max(c.length, -1<<40)
		}
	}
	return !c.bad
}
