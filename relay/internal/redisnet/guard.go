package redisnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
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
// See docs/decisions/layers.md#why-does-go-redis-sit-behind-a-length-guard
type guard struct {
	net.Conn
	claims claims
	greeting
}

// guarded makes the connections that dial makes guarded ones. With a route, they know whether its host hangs up at
// HELLO.
func guarded(dial dialFunc, r *Route) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		g := guard{Conn: c, greeting: greeting{route: r}}
		if raw, ok := c.(syscall.Conn); ok {
			return &rawGuard{g, raw}, nil
		}
		return &g, nil
	}
}

// greeting is what the first command and its reply say of a host, which may hang up at HELLO. The pooled client sends
// that in any case, whatever its settings, and goes on without only if the host refuses it in words: these are
// supplied here.
type greeting struct {
	route *Route // nil: every command is sent
	phase phase
	reply []byte // not read yet
}

// phase is how far a greeting is.
type phase uint8

const (
	fresh  phase = iota // nothing was sent
	asking              // HELLO was sent and not answered
	over
)

// Write implements [net.Conn].
func (g *guard) Write(b []byte) (int, error) {
	if g.phase == fresh && g.route != nil {
		g.phase = over
		if hello := helloLength(b); hello > 0 {
			g.phase = asking
			if time.Now().Unix() < g.route.quiet.Load() {
				g.phase, g.reply = over, []byte("-ERR unknown command 'HELLO'\r\n")
				if hello == len(b) {
					return hello, nil
				}
				n, err := g.Conn.Write(b[hello:])
				return hello + n, err
			}
		}
	}
	return g.Conn.Write(b)
}

// helloLength is the length of a HELLO that b begins with, 0 if it begins with anything else.
func helloLength(b []byte) int {
	r := bytes.NewReader(b)
	line := func() int {
		var text []byte
		for c, err := r.ReadByte(); err == nil && c != '\n'; c, err = r.ReadByte() {
			text = append(text, c)
		}
		if len(text) < 2 {
			return -1
		}
		n, err := strconv.Atoi(string(bytes.TrimSpace(text[1:])))
		if err != nil {
			return -1
		}
		return n
	}
	words := line()
	if words < 1 {
		return 0
	}
	for i := range words {
		size := line()
		if size < 0 || size > r.Len()-2 {
			return 0
		}
		word := b[len(b)-r.Len():][:size]
		if i == 0 && !strings.EqualFold(string(word), "hello") {
			return 0
		}
		_, _ = r.Seek(int64(size)+2, io.SeekCurrent) // within b
	}
	return len(b) - r.Len()
}

// rawGuard shows the pool the socket, too, which it looks at to find out whether a connection has ended while nobody used it.
type rawGuard struct {
	guard
	syscall.Conn
}

// Read implements [net.Conn].
func (g *guard) Read(b []byte) (int, error) {
	if len(g.reply) > 0 {
		n := copy(b, g.reply)
		g.reply = g.reply[n:]
		return n, nil
	}
	n, err := g.Conn.Read(b)
	if g.phase == asking {
		if g.phase = over; n == 0 && hangsUp(err) {
			g.route.SkipHello()
		}
	}
	if !g.claims.sound(b[:n]) {
		return 0, errClaim
	}
	return n, err
}

// maxNested is how deep values of a reply may lie in each other.
const maxNested = 8

// claims follows a stream of RESP values as far as to know where lengths stand, and how deep values lie in each other: the pooled client calls
// itself for each, and has no bound.
type claims struct {
	kind   byte  // of the header line that is being read; 0 at its beginning
	length int64 // what it says so far
	skip   int64 // how much of a bulk string, with its line end, is still to come
	bad    bool

	open     [maxNested]int64 // elements still to come of the values that are being read, the outermost first
	depth    int
	elements int64 // announced by the outermost and all in it
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
			c.header()
			c.kind, c.length = 0, 0
		case c.kind == 0:
			c.kind = char
			c.bad = char == '|' // nobody has asked for attributes
		case char == '-':
			c.length = -1 << 40 // a null; digits do not make it positive
		case char == '?' && c.counts():
			c.bad = true // a length that is not known beforehand: Redis has none
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

// counts tells whether the value that is being read has elements.
func (c *claims) counts() bool {
	return c.kind == '*' || c.kind == '%' || c.kind == '~' || c.kind == '>'
}

// header takes a header line that has come to its end.
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
	for c.depth > 0 { // a value is complete, and with it those whose last it is
		if c.open[c.depth-1]--; c.open[c.depth-1] > 0 {
			return
		}
		c.depth--
	}
	c.elements = 0
}
