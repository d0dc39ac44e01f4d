package ws

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// Buffers of a connection, in bytes: client messages are small, and coder/websocket writes only control frames.
const (
	readBuffer  = 256
	writeBuffer = 160
)

// Accept upgrades a request to a websocket. The request must have been found sound by
// [CheckUpgrade], and its origin acceptable, before. frameSize is the longest message, in bytes,
// that the client may send. On an error the response has been written.
func Accept(w http.ResponseWriter, r *http.Request, frameSize int, subprotocols ...string) (*Conn, error) {
	h := &hijacker{ResponseWriter: w}
	proto, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // the caller's business
		CompressionMode:    websocket.CompressionDisabled,
		Subprotocols:       subprotocols,
	})
	if err != nil {
		return nil, fmt.Errorf("upgrading to websocket: %w", err)
	}
	proto.SetReadLimit(int64(frameSize))
	h.conn.proto = proto
	return h.conn, nil
}

// Subprotocol is what was agreed in the handshake.
func (c *Conn) Subprotocol() string { return c.proto.Subprotocol() }

// hijacker gives coder/websocket our own connection and small buffers, where net/http's would keep 8 KiB per client.
type hijacker struct {
	http.ResponseWriter
	conn *Conn
}

// Hijack implements [http.Hijacker]. It takes the connection from the innermost writer:
// wrappers, such as that of an access log, would stand between us and the socket for as long as it lives.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	inner := h.ResponseWriter
	for {
		u, ok := inner.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		inner = u.Unwrap()
	}
	nc, rw, err := http.NewResponseController(inner).Hijack()
	if err != nil {
		return nil, nil, err
	}
	// net/http may have left deadlines of its own for the request.
	_ = nc.SetDeadline(time.Time{})

	c := &Conn{net: nc, direct: newDirectWriter(nc)}
	c.lastRead.Store(time.Now().UnixNano())
	p := &protoConn{Conn: nc, c: c}
	if n := rw.Reader.Buffered(); n > 0 {
		early, _ := rw.Reader.Peek(n)
		p.early = bytes.Clone(early)
	}
	h.conn = c
	return p, bufio.NewReadWriter(bufio.NewReaderSize(p, readBuffer), bufio.NewWriterSize(p, writeBuffer)), nil
}
