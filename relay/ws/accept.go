package ws

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// Accept upgrades a request to a websocket. The request must have been found sound by
// [CheckUpgrade], and its origin acceptable, before. limit is asked for the longest message, in bytes,
// that the client may send. Of subprotocols the first that the client offers is agreed. On an error the response has been written.
func Accept(w http.ResponseWriter, r *http.Request, limit func() int, subprotocols ...string) (*Conn, error) {
	c := &Conn{limit: limit}
	h := w.Header()
	h.Set("Upgrade", "websocket")
	h.Set("Connection", "Upgrade")
	h.Set("Sec-WebSocket-Accept", acceptKey(r.Header.Get("Sec-WebSocket-Key")))
	for _, p := range subprotocols {
		if hasToken(r.Header, "Sec-WebSocket-Protocol", p) {
			h.Set("Sec-WebSocket-Protocol", p)
			c.subprotocol = p
			break
		}
	}
	w.WriteHeader(http.StatusSwitchingProtocols)

	nc, early, err := hijack(w)
	if err != nil {
		http.Error(w, "no websocket is possible on this connection", http.StatusNotImplemented)
		return nil, fmt.Errorf("upgrading to websocket: %w", err)
	}
	c.net, c.direct, c.early = nc, newDirectWriter(nc), early
	c.lastRead.Store(time.Now().UnixNano())
	return c, nil
}

// acceptKey proves to the client that its handshake was understood (RFC 6455 section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(strings.TrimSpace(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// hijack takes the connection, and what the client has sent already, from the innermost writer: wrappers,
// such as that of an access log, would stand between us and the socket for as long as it lives.
func hijack(w http.ResponseWriter) (net.Conn, []byte, error) {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = u.Unwrap()
	}
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	_ = nc.SetDeadline(time.Time{}) // net/http may have left deadlines of its own for the request
	var early []byte
	if n := rw.Reader.Buffered(); n > 0 {
		waiting, _ := rw.Reader.Peek(n)
		early = bytes.Clone(waiting)
	}
	return nc, early, nil
}
