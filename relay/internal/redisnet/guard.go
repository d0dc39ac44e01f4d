package redisnet

import (
	"bytes"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// guard is a connection of the pooled client that ends at a reply of impossible size. The client would allocate that
// size at once, and a length beyond the memory ends the process.
// See docs/decisions/layers.md#why-does-go-redis-sit-behind-a-length-guard
type guard struct {
	net.Conn
	claims claims
	greeting
}

// guarded wraps the connections of a dialer. With a route, HELLO is not sent again to a host that hangs up.
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

// greeting watches the first command and the reply. The pooled client always sends HELLO first, and continues without
// HELLO only after an error reply. For a host that hangs up instead, greeting answers with that error.
type greeting struct {
	route *Route // nil: every command is sent
	phase phase
	reply []byte // the guard's own answer, not read yet
}

// phase is how far the greeting is.
type phase uint8

const (
	fresh  phase = iota // no command was sent
	asking              // HELLO was sent and not answered
	over                // every further byte passes
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

// helloLength returns the length of the HELLO at the beginning of b, or 0.
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

// rawGuard also gives the pool the socket, to find out whether an unused connection has ended.
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
