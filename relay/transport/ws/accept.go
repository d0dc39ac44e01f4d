package ws

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
)

// Options are the options of [Accept].
type Options struct {
	// Poller wakes the connection when bytes arrive. It must not be nil.
	Poller *netpoll.Poller
	// MessageLimit returns the length in bytes of the longest message that the client may send. It is called for each
	// frame, so that the limit can change while the connection is open.
	MessageLimit func() int
	// Greeting is a sequence of encoded frames that follows the response in the same write.
	Greeting []byte
	// Subprotocols are those that the server speaks, the preferred one first. Empty: none.
	Subprotocols []string
}

// Accept upgrades a request to a websocket. The caller has called [CheckUpgrade] and checked the origin. If Accept
// returns an error, it has written the response.
func Accept(w http.ResponseWriter, r *http.Request, o Options) (*Conn, error) {
	c := &Conn{limit: o.MessageLimit}
	key := acceptKey(r.Header.Get("Sec-WebSocket-Key"))
	first := c.answer(w, r, key, o.Subprotocols)
	if err := c.take(o.Poller, innermost(w)); err != nil {
		return nil, notPossible(w, err)
	}
	if first = append(first, o.Greeting...); len(first) > 0 {
		c.Send(first, 0)
	}
	return c, nil
}

// notPossible refuses an upgrade that cannot be.
func notPossible(w http.ResponseWriter, err error) error {
	for _, name := range []string{"Upgrade", "Connection", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol"} {
		w.Header().Del(name)
	}
	http.Error(w, "no websocket is possible on this connection", http.StatusNotImplemented)
	return fmt.Errorf("upgrading to websocket: %w", err)
}

// answer sets the headers that end the handshake, and returns the whole response, unless w has to see it and has written it.
func (c *Conn) answer(w http.ResponseWriter, r *http.Request, key string, subprotocols []string) []byte {
	h := w.Header()
	h.Set("Upgrade", "websocket")
	h.Set("Connection", "Upgrade")
	h.Set("Sec-WebSocket-Accept", key)
	for _, p := range subprotocols {
		if hasToken(r.Header, "Sec-WebSocket-Protocol", p) {
			h.Set("Sec-WebSocket-Protocol", p)
			c.subprotocol = p
			break
		}
	}
	if innermost(w) != w { // such as an access log
		w.WriteHeader(http.StatusSwitchingProtocols)
		return nil
	}
	return appendResponse(make([]byte, 0, 512), h)
}

// take takes the connection over.
func (c *Conn) take(p *netpoll.Poller, w http.ResponseWriter) error {
	nc, early, err := hijack(w)
	if err != nil {
		return err
	}
	if len(early) > 0 {
		c.early = bytes.NewReader(early)
	}
	p.Attach(&c.io, nc, c)
	c.lastRead.Store(relay.Ticks(time.Now()))
	return nil
}

// appendResponse appends the response that ends the handshake, as net/http would write it but for the order of its headers: to sort them
// takes a deep stack.
func appendResponse(b []byte, h http.Header) []byte {
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\n"...)
	for name, values := range h {
		if !httpguts.ValidHeaderFieldName(name) {
			continue
		}
		for _, v := range values {
			b = append(append(append(b, name...), ": "...), textproto.TrimString(oneLine.Replace(v))...)
			b = append(b, "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

var oneLine = strings.NewReplacer("\n", " ", "\r", " ")

// acceptKey proves to the client that its handshake was understood (RFC 6455 section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(strings.TrimSpace(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// innermost is the writer beneath all wrappers. One such as that of an access log would stand between us and the
// socket for as long as it lives.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}

// hijack takes the connection, and what the client has sent already.
func hijack(w http.ResponseWriter) (net.Conn, []byte, error) {
	nc, rw, err := http.NewResponseController(w).Hijack() // and deadlines of the request are lifted
	if err != nil {
		return nil, nil, err
	}
	var early []byte
	if n := rw.Reader.Buffered(); n > 0 {
		waiting, _ := rw.Reader.Peek(n)
		early = bytes.Clone(waiting)
	}
	return nc, early, nil
}
